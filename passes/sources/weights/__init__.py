"""Weights of a checkpoint: their files, names and shapes."""
