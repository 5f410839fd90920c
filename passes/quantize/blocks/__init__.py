"""Weights in blocks of integers: formats, codes with and without text, and their layout in memory."""
