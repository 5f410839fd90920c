"""Models as users name them: checkpoints, GGUF files, ONNX folders, hub ids, the demo."""
