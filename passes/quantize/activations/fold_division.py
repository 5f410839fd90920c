"""Folding a division into the layer before it: ``(gate * up) / s`` is ``gate * (up / s)``.

The input of ``down_proj`` is a product of which one factor is what ``up_proj`` puts out. To divide that by factors,
the scales of ``up_proj``'s output features are divided once, as its codes stay what they are, and nothing is left to do
at run time. Cases:

1. ``up_proj`` is MatMulNBits or MatMulIntegerToFloat: its scales are divided;
2. ``gate_up_proj`` is one of these, and a Split follows: those of its upper half are;
3. the rows of the product are multiplied by their magnitudes (``activations/row_scale.py``): as without that;
4. anything else (another reader, a bias, a float layer): the division stays.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from olivine.passes.graph import constant, drop_unused
from olivine.passes.quantize.activations.row_scale import before_rows

#: Operator -> which of its inputs are the scales, [N, ...], and where its inputs end where it has no bias.
_SCALES = {"MatMulNBits": (2, 5), "MatMulIntegerToFloat": (3, 6)}


def fold_divisions(model: ir.Model, factors: dict[ir.Node, np.ndarray]) -> None:
    """Fold nodes that multiply by the inverse of factors, where that can be; the others stay.

    Args:
        model: changed in place.
        factors: multiplication -> what it divides by, float32 [K].
    """
    for node, by in factors.items():
        divided = node.inputs[0]
        product = None if divided is None else divided.producer()
        if divided is None or product is None or product.op_type != "Mul" or len(divided.uses()) > 1:
            continue
        scales = next((scales for side in product.inputs if (scales := _scales_behind(side, len(by)))), None)
        if scales is None:
            continue
        value, start = scales
        _divide(value, start, by)
        ir.convenience.replace_all_uses_with(node.outputs[0], divided)
    drop_unused(model)


def _scales_behind(side: ir.Value | None, features: int) -> tuple[ir.Value, int] | None:
    """The scales of the layer that puts out ``side`` and nothing else, and where in them its features start."""
    if side is None or len(side.uses()) != 1 or (layer := side.producer()) is None:
        return None
    start = 0
    if layer.op_type == "Split":
        start = features * list(layer.outputs).index(side)
        sizes = layer.outputs
        source = layer.inputs[0]
        if len(sizes) != 2 or source is None or len(source.uses()) != 1 or (layer := source.producer()) is None:
            return None
    layer = before_rows(layer)
    if layer.op_type not in _SCALES:
        return None
    position, without_bias = _SCALES[layer.op_type]
    scales = layer.inputs[position]
    if any(extra is not None for extra in layer.inputs[without_bias:]) or scales is None or len(scales.uses()) != 1:
        return None
    if scales.const_value is None:
        return None
    rows = scales.const_value.shape.numpy()[0]
    return (scales, start) if rows in (features, 2 * features) and start + features <= rows else None


def _divide(scales: ir.Value, start: int, by: np.ndarray) -> None:
    whole = constant(scales)
    shape = ir.Shape(whole.shape.numpy())
    scales.const_value = ir.LazyTensor(_divided(whole, start, by), dtype=whole.dtype, shape=shape, name=scales.name)


def _divided(whole: ir.TensorProtocol, start: int, by: np.ndarray) -> Callable[[], ir.TensorProtocol]:
    def compute() -> ir.TensorProtocol:
        changed = np.array(whole.numpy())
        rows = changed[start : start + len(by)]
        rows /= by.astype(changed.dtype).reshape(-1, *[1] * (changed.ndim - 1))
        return ir.tensor(changed, name=whole.name)

    return compute
