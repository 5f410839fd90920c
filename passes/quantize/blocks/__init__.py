"""Weights in blocks of integers: formats, codes with and without text, packing, and the node that reads them."""
