"""Scripts that run under the interpreter of an engine: they need numpy and it, and import one another by name."""
