"""Plain ONNX graphs and encoders: models that read named inputs once and answer, without a cache or a vocabulary."""
