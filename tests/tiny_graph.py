"""A tiny text encoder as a plain ONNX graph, built in code; and the YAML of a study of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROWS, HIDDEN, INNER = 50, 32, 64


def tiny_graph(path: Path, seed: int = 0) -> Path:
    """Ids [batch, sequence] -> embedding -> two products with a Relu between -> mean over the sequence."""
    rng = np.random.default_rng(seed)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.normal(0, shape[0] ** -0.5, shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"]),
        helper.make_node("MatMul", ["embedded", "up"], ["raised"], "/layer/up/MatMul"),
        helper.make_node("Add", ["raised", "bias"], ["biased"]),
        helper.make_node("Relu", ["biased"], ["active"]),
        helper.make_node("MatMul", ["active", "down"], ["lowered"], "/layer/down/MatMul"),
        helper.make_node("ReduceMean", ["lowered"], ["embedding"], axes=[1], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", HIDDEN])],
        [
            weight("table", ROWS, HIDDEN),
            weight("up", HIDDEN, INNER),
            weight("bias", INNER),
            weight("down", INNER, HIDDEN),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def tiny_plain_yaml(model: Path, **changes: Any) -> dict[str, Any]:
    """The raw YAML of a study that takes seconds."""
    return {
        "name": "tiny-graph",
        "model": str(model),
        "inputs": {"shapes": {"one": {"batch": 1, "sequence": 4}, "many": {"batch": 4, "sequence": 8}}, "samples": 4},
        "space": {"precision": ["int8", "int4"], "activations": ["float", "dynamic", "static"], "block_size": [16, 32]},
        "evaluation": {"latency": {"max_seconds": 0.1, "half_width": 0.5}},
        "stop": {"trials": 3},
        "confirm": {"members": 2, "race": None},
        **changes,
    }
