"""Times of the kernels that quantized layers need, on this machine."""
