"""Checkpoints whose weights are integer codes already: their formats, and the float weights that codes stand for."""
