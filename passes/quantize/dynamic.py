"""Dynamic int8: activations are quantized as they come, and the product is taken in integers.

Weights are int8, symmetric, one scale an output channel; activations uint8, one scale and zero point a tensor.
With ``reduce_range`` weights take 7 bits, so that the sums of CPUs without VNNI do not saturate.
One DynamicQuantizeLinear serves all the layers that read the same activation (gate and up; q, k and v). With ``smooth``
what down_proj reads is divided, channel by channel, before that (``smoothing.py``), so that it stands it too. Its
outliers are the largest; and its division costs nothing, where it can be folded into up_proj (``fold_division.py``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from olivine.passes.base import Axis, Choice
from olivine.passes.cpu import int8_sums_saturate
from olivine.passes.errors import PassRefused
from olivine.passes.graph import MICROSOFT, Linear, add_initializer, drop_unused, linears, replace_node
from olivine.passes.kernel import DYNAMIC_INT8, Kernel
from olivine.passes.learn.calibrated import Calibrated
from olivine.passes.precisions import is_integer, is_mixed
from olivine.passes.quantize.fold_division import fold_divisions
from olivine.passes.quantize.layer_format import DynamicInt8, Format
from olivine.passes.quantize.layer_loss import LayerLoss
from olivine.passes.quantize.layer_pattern import check_pattern
from olivine.passes.quantize.quantize_pass import QuantizePass
from olivine.passes.quantize.smoothing import smoothing_factors

#: Named choices of layers. The head is in none: its error reaches every logit undamped, decode gains little.
LAYER_GROUPS = {
    "all": r"layers\.\d+/.*",
    "not_down": r"layers\.\d+/(?!down_proj).*",
    "attention": r"layers\.\d+/(q|k|v|qkv|o)_proj",
    "mlp": r"layers\.\d+/(gate|up|gate_up|down)_proj",
    "mlp_in": r"layers\.\d+/(gate|up|gate_up)_proj",
}
#: The largest code of a weight, and that of 7 bits.
TOP, REDUCED_TOP = 127, 63
#: Codes, scale and zero point of a quantized activation.
_Activation = tuple[ir.Value, ir.Value, ir.Value]


@dataclass(frozen=True)
class DynamicQuantize(QuantizePass):
    """Quantize weights and activations of the chosen layers to int8.

    Attributes:
        layers: a regular expression matched against the whole path of a layer (``layers.3/down_proj``).
        reduce_range: weights take 7 bits instead of 8.
        smooth: range is moved from the activations into the weights, learned from calibration text.
    """

    layers: str = LAYER_GROUPS["not_down"]
    reduce_range: bool = False
    smooth: bool = False

    name: ClassVar[str] = "dynamic_int8"
    version: ClassVar[int] = 2
    requires: ClassVar[frozenset[str]] = frozenset({"onnx", "float"})
    adds: ClassVar[frozenset[str]] = frozenset({"quantized"})
    axes: ClassVar[tuple[Axis, ...]] = (
        Axis(
            "activations",
            "choice",
            "float",
            "int8 quantizes the activations of `dynamic_layers` too, for a faster prefill",
            ("float", "int8"),
            applies=lambda choice: is_integer(choice) and choice.get("provider") == "cpu",
        ),
        Axis(
            "smooth",
            "bool",
            False,
            "move range from quantized activations into the weights (SmoothQuant), learned from calibration text",
            applies=lambda choice: choice.get("activations") == "int8",
            calibrated=(True,),
        ),
        Axis(
            "dynamic_layers",
            "choice",
            "not_down",
            "layers whose activations are quantized; down_proj, which loses most, is by default only with `smooth`",
            tuple(LAYER_GROUPS),
            applies=lambda choice: choice.get("activations") == "int8",
            default_of=lambda choice: "all" if choice.get("smooth") else "not_down",
        ),
        Axis(
            "reduce_range",
            "bool",
            False,
            "use 7 bits for weights beside int8 activations; the default on x86 without VNNI, where 8 bits saturate",
            applies=lambda choice: choice.get("activations") == "int8",
            default_of=lambda choice: int8_sums_saturate(),
        ),
    )

    def __post_init__(self) -> None:
        """Check the pattern that a request file may bring."""
        check_pattern(self.name, self.layers)

    @classmethod
    def from_choice(cls, choice: Choice) -> DynamicQuantize | None:
        """The pass for ``activations: int8``."""
        if choice.get("activations", "float") == "float" or is_mixed(choice):
            return None  # mixed precision chooses these layers itself
        return cls(LAYER_GROUPS[str(choice["dynamic_layers"])], bool(choice["reduce_range"]), bool(choice["smooth"]))

    def formats(self, losses: Mapping[str, LayerLoss]) -> dict[str, Format]:
        """Dynamic int8 for every layer that the pattern matches."""
        form = DynamicInt8(top_code(self.reduce_range), self.smooth)
        return {path: form for path in losses if re.fullmatch(self.layers, path)}

    @property
    def needs_calibration(self) -> bool:
        """True when ranges are moved: they are learned from text."""
        return self.smooth

    @property
    def kernels(self) -> frozenset[Kernel]:
        """The one of int8 activations."""
        return frozenset({DYNAMIC_INT8})

    def rewrite(self, model: ir.Model) -> None:
        """Replace each chosen MatMul by MatMulIntegerToFloat behind a shared DynamicQuantizeLinear."""
        if self.smooth:
            raise PassRefused("dynamic_int8: smoothing learns from calibration text, and none was given")
        quantize_activations(model, self._chosen(model), top_code(self.reduce_range), {})

    def rewrite_calibrated(self, model: ir.Model, calibrated: Calibrated) -> None:
        """The same, with ranges moved from the activations into the weights."""
        chosen, top = self._chosen(model), top_code(self.reduce_range)
        fold_divisions(model, quantize_activations(model, chosen, top, smoothing_of(chosen, calibrated, top)))

    def _chosen(self, model: ir.Model) -> list[Linear]:
        chosen = [layer for layer in linears(model) if re.fullmatch(self.layers, layer.path)]
        if not chosen:
            raise PassRefused(f"dynamic_int8: no layer matches '{self.layers}'")
        return chosen


def smoothing_of(layers: Sequence[Linear], calibrated: Calibrated, top: int) -> dict[str, np.ndarray]:
    """Name of each activation that is a gated product -> what its channels are divided by, float32 [K].

    Args:
        layers: that will be dynamic int8.
        calibrated: calibration results about their activations.
        top: the largest code of a weight.
    """
    readers: dict[str, list[Linear]] = {}
    for layer in layers:
        if _is_gated(layer):
            readers.setdefault(layer.reads, []).append(layer)
    return {
        name: smoothing_factors(
            [layer.array().astype(np.float32, copy=False) for layer in some],
            calibrated.ranges(some[0]),
            np.diagonal(calibrated.hessian(some[0])),
            top,
        )
        for name, some in readers.items()
    }


def quantize_activations(
    model: ir.Model, layers: Sequence[Linear], top: int, factors: Mapping[str, np.ndarray]
) -> dict[ir.Node, np.ndarray]:
    """Replace each layer's MatMul by MatMulIntegerToFloat behind a DynamicQuantizeLinear shared by all that read it.

    Args:
        model: the graph to change.
        layers: linear layers of it.
        top: the largest code of a weight.
        factors: name of an activation -> what its channels are divided by; those that are missing stay as they are.

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
            quantized[activation] = _quantized(model, smooth, before=layer.node)
        _replace(model, layer, quantized[activation], top, by)
    model.opset_imports.setdefault(MICROSOFT, 1)
    drop_unused(model)
    return divisions


def _quantized(model: ir.Model, activation: ir.Value, before: ir.Node) -> _Activation:
    name = f"{activation.name}/DynamicQuantizeLinear"
    node = ir.node("DynamicQuantizeLinear", [activation], num_outputs=3, name=name)
    for output, part in zip(node.outputs, ("codes", "scale", "zero_point"), strict=True):
        output.name = f"{name}/{part}"
    model.graph.insert_before(before, node)
    return node.outputs[0], node.outputs[1], node.outputs[2]


def _is_gated(layer: Linear) -> bool:
    """True when a layer reads a product, as down_proj does."""
    activation = layer.node.inputs[0]
    producer = None if activation is None else activation.producer()
    return producer is not None and producer.op_type == "Mul"


def _division(model: ir.Model, activation: ir.Value, factors: np.ndarray, before: ir.Node) -> ir.Node:
    """A node that divides the channels of an activation by factors [K]."""
    name = f"{activation.name}/Smooth"
    inverse = add_initializer(model, f"{name}_factors", ir.DataType.FLOAT, factors.shape, lambda: 1 / factors)
    node = ir.node("Mul", [activation, inverse], name=name)
    node.outputs[0].name = f"{name}/output_0"
    node.outputs[0].type, node.outputs[0].shape = activation.type, activation.shape
    model.graph.insert_before(before, node)
    return node


def _replace(model: ir.Model, layer: Linear, activation: _Activation, top: int, factors: np.ndarray | None) -> None:
    codes, scale, zero_point = activation
    k, n = layer.shape
    stem = f"{layer.weight.name}_I8"

    def weight() -> np.ndarray:
        return layer.array() if factors is None else layer.array() * factors[:, None]

    inputs = [
        codes,
        add_initializer(model, stem, ir.DataType.INT8, (k, n), lambda: channel_codes(weight(), top)),
        scale,
        add_initializer(model, f"{stem}_scales", ir.DataType.FLOAT, (n,), lambda: channel_scales(weight(), top)),
        zero_point,
    ]
    name = f"{layer.node.name}_I8"
    replace_node(model, layer.node, ir.node("MatMulIntegerToFloat", inputs, domain=MICROSOFT, name=name))


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
