"""LoRA adapters beside a graph: read from PEFT folders, given places in the graph, and written for ONNX Runtime."""
