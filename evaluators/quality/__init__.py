"""Perplexity, divergence, output fidelity and task scores."""
