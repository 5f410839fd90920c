"""Rows of an activation divided by their own largest magnitude, so that one range of the tensor fits each of them.

ONNX Runtime's integer products on the CPU know one scale a tensor. ``X W = m * ((X / m) W)``, with ``m`` [.., 1] the
largest magnitude of each row: what is quantized lies between -1 and 1 in every row, and each token has a step of its
own size. Rows of zeros are divided by :data:`LEAST` and stay zeros.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from olivine.passes.graph import add_initializer, replace_node

#: Largest magnitude that a row is taken to have at least; a product with the least weights is far above float's least.
LEAST = 1e-30
#: From this opset on, ReduceMax takes its axes as an input.
_AXES_ARE_INPUT = 18
_LEAST_NAME, _AXES_NAME = "row_scale/least", "row_scale/axes"
_PEAK = "/RowPeak"


def divide_rows(model: ir.Model, activation: ir.Value, before: ir.Node) -> tuple[ir.Value, ir.Value]:
    """Add nodes that divide each row of an activation [.., K] by its largest magnitude.

    Args:
        model: the graph to change.
        activation: float32.
        before: the node that the new ones are put before.

    Returns:
        The divided activation, and the magnitudes [.., 1].
    """
    stem = activation.name
    magnitudes = ir.node("Abs", [activation], name=f"{stem}/RowAbs")
    reduce = _largest(model, magnitudes.outputs[0], f"{stem}/RowMax")
    least = _shared(model, _LEAST_NAME, ir.DataType.FLOAT, np.array(LEAST, np.float32))
    peak = ir.node("Max", [reduce.outputs[0], least], name=f"{stem}{_PEAK}")
    divide = ir.node("Div", [activation, peak.outputs[0]], name=f"{stem}/RowDiv")
    for node in (magnitudes, reduce, peak, divide):
        node.outputs[0].name = f"{node.name}/output_0"
        model.graph.insert_before(before, node)
    return divide.outputs[0], peak.outputs[0]


def multiply_rows(model: ir.Model, old: ir.Node, new: ir.Node, peaks: ir.Value) -> None:
    """Put ``new`` where ``old`` is, its rows multiplied by ``peaks`` [.., 1]; the result keeps its name."""
    new.outputs[0].name = f"{new.name}/output_0"
    model.graph.insert_before(old, new)
    replace_node(model, old, ir.node("Mul", [new.outputs[0], peaks], name=f"{new.name}/Rows"))


def before_rows(node: ir.Node) -> ir.Node:
    """The node whose rows ``node`` multiplies by their magnitudes, where it does that; else ``node`` itself."""
    if node.op_type != "Mul":
        return node
    product, peaks = node.inputs
    of_peaks = None if peaks is None else peaks.producer()
    if product is None or of_peaks is None or not str(of_peaks.name).endswith(_PEAK) or len(product.uses()) > 1:
        return node
    return product.producer() or node


def _largest(model: ir.Model, value: ir.Value, name: str) -> ir.Node:
    """The largest element of each row, [.., 1]."""
    if model.opset_imports.get("", 0) < _AXES_ARE_INPUT:
        return ir.node("ReduceMax", [value], {"axes": [-1], "keepdims": 1}, name=name)
    axes = _shared(model, _AXES_NAME, ir.DataType.INT64, np.array([-1], np.int64))
    return ir.node("ReduceMax", [value, axes], {"keepdims": 1}, name=name)


def _shared(model: ir.Model, name: str, dtype: ir.DataType, array: np.ndarray) -> ir.Value:
    """A constant that all rows share."""
    known = model.graph.initializers.get(name)
    return known if known is not None else add_initializer(model, name, dtype, array.shape, lambda: array)
