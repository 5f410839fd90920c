from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from olivine.passes.graph import linears


def one_layer(node: str, weight: str) -> ir.Model:
    """A graph of one MatMul, by the names of its node and its weight."""
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["n", 4]))
    w = ir.Value(name=weight, const_value=ir.tensor(np.ones((4, 2), np.float32), name=weight))
    matmul = ir.Node("", "MatMul", [x, w], name=node)
    return ir.Model(
        ir.Graph([x], matmul.outputs, nodes=[matmul], initializers=[w], opset_imports={"": 21}), ir_version=10
    )


@pytest.mark.parametrize("node", ["", "/"])
def test_a_linear_layer_without_a_name_goes_by_its_weights(node: str) -> None:
    (layer,) = linears(one_layer(node, "onnx::MatMul_7"))
    assert layer.path == (node or "onnx::MatMul_7")
    assert layer.shape == (4, 2)


def test_a_linear_layer_goes_by_its_nodes_name() -> None:
    (layer,) = linears(one_layer("/model/layers.3/mlp/down_proj/MatMul", "w"))
    assert layer.path == "layers.3/down_proj"
