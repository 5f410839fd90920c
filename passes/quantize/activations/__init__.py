"""Quantized activations: their ranges, and integer products that read them."""
