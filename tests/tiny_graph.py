"""A tiny text encoder as a plain ONNX graph, in code; its tokenizer, labelled rows, and a study's YAML."""

from __future__ import annotations

import json
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


def tiny_tokenizer(folder: Path) -> Path:
    """A tokenizer.json of the words w0 to w49."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(ROWS)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def labelled_rows(model: Path, count: int = 400, seed: int = 0) -> list[dict[str, Any]]:
    """Rows whose ``label`` is the float graph's own class, and ``near`` its cosine of ``text`` and ``other``."""
    import onnxruntime as ort

    session = ort.InferenceSession(model)
    rng = np.random.default_rng(seed)

    def vector(ids: np.ndarray) -> np.ndarray:
        found: np.ndarray = session.run(None, {"input_ids": ids[None]})[0][0]
        return found

    rows = []
    for _ in range(count):
        one, two = (rng.integers(0, ROWS, rng.integers(2, 9)) for _ in range(2))
        a, b = vector(one), vector(two)
        text, other = (" ".join(f"w{i}" for i in ids) for ids in (one, two))
        near = float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        rows.append({"text": text, "other": other, "label": int(a.argmax()), "near": near})
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
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
