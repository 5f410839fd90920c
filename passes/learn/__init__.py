"""Calibration text, Hessians and gradients that passes learn from."""
