"""Tiny graphs with the model builder's names, rewritten by a pass and run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from olivine.passes.base import GraphPass
from olivine.passes.graph import load_graph, save_graph

HIDDEN, INNER, VOCAB = 64, 96, 40


@dataclass(frozen=True)
class Rewritten:
    """A graph before and after passes.

    Attributes:
        before: the file that was read.
        after: the file that was written.
    """

    before: Path
    after: Path

    def nodes(self) -> dict[str, onnx.NodeProto]:
        """Nodes of the rewritten graph by name."""
        return {node.name: node for node in onnx.load(self.after).graph.node}

    def weights(self) -> dict[str, np.ndarray]:
        """Initializers of the rewritten graph by name."""
        return {w.name: numpy_helper.to_array(w) for w in onnx.load(self.after).graph.initializer}

    def run(self, **feed: np.ndarray) -> np.ndarray:
        """The rewritten graph's first output."""
        options = ort.SessionOptions()
        options.log_severity_level = 3
        session = ort.InferenceSession(str(self.after), options, providers=["CPUExecutionProvider"])
        output: np.ndarray = session.run(None, feed)[0]
        return output


@pytest.fixture
def rewrite(tmp_path: Path) -> Callable[..., Rewritten]:
    """Writes a model with external data, reads it as the pipeline does, applies passes, writes the result."""

    def apply(model: onnx.ModelProto, *passes: GraphPass, name: str = "after") -> Rewritten:
        onnx.checker.check_model(model)
        before, after = tmp_path / "before" / "model.onnx", tmp_path / name / "model.onnx"
        for path in (before, after):
            path.parent.mkdir(exist_ok=True)
        if not before.exists():
            onnx.save(model, before, save_as_external_data=True, location="model.onnx.data", size_threshold=256)
        graph = load_graph(before)
        for one in passes:
            one.rewrite(graph)
        save_graph(graph, after)
        return Rewritten(before, after)

    return apply


@pytest.fixture
def single_matmul() -> Callable[[np.ndarray], onnx.ModelProto]:
    """One MatMul of a layer: x [M, K] -> y [M, N]."""

    def make(weight: np.ndarray) -> onnx.ModelProto:
        features, outputs = weight.shape
        float_type = helper.np_dtype_to_tensor_dtype(weight.dtype)
        node = helper.make_node("MatMul", ["x", "w"], ["y"], name="/model/layers.0/mlp/down_proj/MatMul")
        return _model(
            [node],
            [helper.make_tensor_value_info("x", float_type, ["M", features])],
            [helper.make_tensor_value_info("y", float_type, ["M", outputs])],
            {"w": weight},
        )

    return make


@pytest.fixture
def decoder_weights() -> dict[str, np.ndarray]:
    """Random weights of :func:`decoder`."""
    random = np.random.default_rng(0)
    shapes = {
        "gate": (HIDDEN, INNER),
        "up": (HIDDEN, INNER),
        "down": (INNER, HIDDEN),
        "head": (HIDDEN, VOCAB),
    }
    weights = {name: (random.normal(size=shape) / 8).astype(np.float32) for name, shape in shapes.items()}
    weights["embed"] = random.normal(size=(VOCAB, HIDDEN)).astype(np.float32)
    return weights


@pytest.fixture
def decoder(decoder_weights: dict[str, np.ndarray]) -> Callable[..., onnx.ModelProto]:
    """ids [S] -> embedding -> one gated MLP -> logits [S, VOCAB]; ``tied`` reads the head's weight."""

    def make(tied: bool = False) -> onnx.ModelProto:
        weights = dict(decoder_weights)
        mlp = "/model/layers.0/mlp"
        nodes = [
            helper.make_node("Gather", ["embed", "ids"], ["x"], name="/model/embed_tokens/Gather"),
            helper.make_node("MatMul", ["x", "gate"], ["g"], name=f"{mlp}/gate_proj/MatMul"),
            helper.make_node("MatMul", ["x", "up"], ["u"], name=f"{mlp}/up_proj/MatMul"),
            helper.make_node("Mul", ["g", "u"], ["h"], name=f"{mlp}/Mul"),
            helper.make_node("MatMul", ["h", "down"], ["d"], name=f"{mlp}/down_proj/MatMul"),
            helper.make_node("MatMul", ["d", "head"], ["logits"], name="/lm_head/MatMul"),
        ]
        if tied:
            del weights["embed"]
            turn = helper.make_node("Transpose", ["head"], ["embed"], name="/model/embed_tokens/Transpose", perm=[1, 0])
            nodes.insert(0, turn)
        return _model(
            nodes,
            [helper.make_tensor_value_info("ids", TensorProto.INT64, ["S"])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["S", VOCAB])],
            weights,
        )

    return make


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: dict[str, np.ndarray],
) -> onnx.ModelProto:
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "main", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
