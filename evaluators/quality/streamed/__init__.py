"""Predictions of a checkpoint in the memory of one decoder layer."""
