"""Linear layers as integer products: MatMulIntegerToFloat behind a DynamicQuantizeLinear that its readers share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from olivine.passes.errors import PassRefused
from olivine.passes.graph import MICROSOFT, Linear, add_initializer, drop_unused, replace_node
from olivine.passes.quantize.activations.row_scale import divide_rows, multiply_rows

#: The largest code of a weight, and that of 7 bits.
TOP, REDUCED_TOP = 127, 63


@dataclass(frozen=True)
class ChannelCodes:
    """A weight with one scale an output feature; each part is computed or read when the graph is written.

    Attributes:
        codes: gives int8 [K, N].
        scales: gives float32 [N].
    """

    codes: Callable[[], np.ndarray]
    scales: Callable[[], np.ndarray]


@dataclass(frozen=True)
class _Activation:
    """A quantized activation.

    Attributes:
        codes: uint8 [.., K].
        scale: of the tensor.
        zero_point: of the tensor.
        peaks: what products are multiplied by, float32 [.., 1]; None where the scale is all.
    """

    codes: ir.Value
    scale: ir.Value
    zero_point: ir.Value
    peaks: ir.Value | None


def quantize_activations(
    model: ir.Model,
    layers: Sequence[Linear],
    top: int,
    factors: Mapping[str, np.ndarray],
    tokens: Collection[str] = (),
    learned: Mapping[str, ChannelCodes] | None = None,
) -> dict[ir.Node, np.ndarray]:
    """Replace each layer's MatMul by MatMulIntegerToFloat behind a DynamicQuantizeLinear shared by all that read it.

    Args:
        model: the graph to change.
        layers: linear layers of it.
        top: the largest code of a weight.
        factors: name of an activation -> what its channels are divided by; those that are missing stay as they are.
        tokens: paths of the layers whose activations have one range a token.
        learned: path of a layer -> its codes, with the factors in them; those that are missing are rounded to nearest.

    Returns:
        The nodes that divide -> what they divide by, for :func:`fold_divisions`.

    Raises:
        PassRefused: when a layer reads nothing.
    """
    quantized: dict[ir.Value, _Activation] = {}
    divisions: dict[ir.Node, np.ndarray] = {}
    for layer in layers:
        activation = layer.node.inputs[0]
        if activation is None:
            raise PassRefused(f"dynamic_int8: {layer.path} reads no activation")
        by = factors.get(layer.reads)
        if activation not in quantized:
            smooth = activation
            if by is not None:
                divide = _division(model, activation, by, before=layer.node)
                divisions[divide], smooth = by, divide.outputs[0]
            quantized[activation] = _quantized(model, smooth, layer.path in tokens, before=layer.node)
        codes = (learned or {}).get(layer.path) or _nearest(layer, by, top)
        _replace(model, layer, quantized[activation], codes)
    model.opset_imports.setdefault(MICROSOFT, 1)
    drop_unused(model)
    return divisions


def _quantized(model: ir.Model, activation: ir.Value, by_token: bool, before: ir.Node) -> _Activation:
    peaks = None
    if by_token:
        activation, peaks = divide_rows(model, activation, before)
    name = f"{activation.name}/DynamicQuantizeLinear"
    node = ir.node("DynamicQuantizeLinear", [activation], num_outputs=3, name=name)
    for output, part in zip(node.outputs, ("codes", "scale", "zero_point"), strict=True):
        output.name = f"{name}/{part}"
    model.graph.insert_before(before, node)
    codes, scale, zero_point = node.outputs
    return _Activation(codes, scale, zero_point, peaks)


def _division(model: ir.Model, activation: ir.Value, factors: np.ndarray, before: ir.Node) -> ir.Node:
    """A node that divides the channels of an activation by factors [K]."""
    name = f"{activation.name}/Smooth"
    inverse = add_initializer(model, f"{name}_factors", ir.DataType.FLOAT, factors.shape, lambda: 1 / factors)
    node = ir.node("Mul", [activation, inverse], name=name)
    node.outputs[0].name = f"{name}/output_0"
    node.outputs[0].type, node.outputs[0].shape = activation.type, activation.shape
    model.graph.insert_before(before, node)
    return node


def _nearest(layer: Linear, factors: np.ndarray | None, top: int) -> ChannelCodes:
    def weight() -> np.ndarray:
        return layer.array() if factors is None else layer.array() * factors[:, None]

    return ChannelCodes(lambda: channel_codes(weight(), top), lambda: channel_scales(weight(), top))


def _replace(model: ir.Model, layer: Linear, activation: _Activation, weight: ChannelCodes) -> None:
    k, n = layer.shape
    stem = f"{layer.weight.name}_I8"
    inputs = [
        activation.codes,
        add_initializer(model, stem, ir.DataType.INT8, (k, n), weight.codes),
        activation.scale,
        add_initializer(model, f"{stem}_scales", ir.DataType.FLOAT, (n,), weight.scales),
        activation.zero_point,
    ]
    name = f"{layer.node.name}_I8"
    product = ir.node("MatMulIntegerToFloat", inputs, domain=MICROSOFT, name=name)
    if activation.peaks is None:
        replace_node(model, layer.node, product)
    else:
        multiply_rows(model, layer.node, product, activation.peaks)


def top_code(reduce_range: bool) -> int:
    """The largest code of a weight."""
    return REDUCED_TOP if reduce_range else TOP


def channel_scales(weight: np.ndarray, top: int = TOP) -> np.ndarray:
    """Scale of each output channel: float [K, N] -> float32 [N], the largest weight takes code ``top``."""
    scales: np.ndarray = np.abs(weight).max(axis=0) / np.float32(top)
    return scales.astype(np.float32)


def channel_codes(weight: np.ndarray, top: int = TOP) -> np.ndarray:
    """Codes of each output channel: float [K, N] -> int8 [K, N] in ``-top .. top``."""
    scales = channel_scales(weight, top)
    inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales > 0)
    codes: np.ndarray = np.rint(weight * inverse)
    return codes.astype(np.int8)
