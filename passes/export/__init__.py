"""Export of a checkpoint to an ONNX Runtime GenAI folder."""
