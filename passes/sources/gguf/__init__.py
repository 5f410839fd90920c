"""GGUF files: read, joined, and converted to checkpoints."""
