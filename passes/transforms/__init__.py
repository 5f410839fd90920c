"""Passes that change a model without quantizing it."""
