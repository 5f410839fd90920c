"""Evaluators: they turn a model folder into numbers, each with its interval and protocol."""
