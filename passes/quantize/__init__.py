"""Quantization of weights and activations, on ONNX graphs."""
