"""Weights that a checkpoint brought as integer codes, stored as they are."""
