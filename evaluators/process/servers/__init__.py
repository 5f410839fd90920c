"""The child side of a model process: one server a runtime; the standard library, numpy and ONNX Runtime alone."""
