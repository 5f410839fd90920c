"""Dynamic int8: activations are quantized as they come, and the product is taken in integers.

Weights are int8, symmetric, one scale an output channel; activations uint8, one scale and zero point a tensor.
With ``reduce_range`` weights take 7 bits, so that the sums of CPUs without VNNI do not saturate.
One DynamicQuantizeLinear serves all the layers that read the same activation (gate and up; q, k and v). With ``smooth``
the activation is divided, channel by channel, before it (``smoothing.py``): a small product more, and layers whose
activations have outliers stand it too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import onnx_ir as ir

from olivine.passes.base import Axis, Choice, GraphPass
from olivine.passes.cpu_features import int8_sums_saturate
from olivine.passes.errors import PassRefused
from olivine.passes.graph import MICROSOFT, Linear, add_initializer, drop_unused, linears, replace_node
from olivine.passes.quantize.integers import is_integer, is_mixed
from olivine.passes.quantize.layer_format import DynamicInt8, Format
from olivine.passes.quantize.layer_pattern import check_pattern
from olivine.passes.quantize.smoothing import smoothing_factors

if TYPE_CHECKING:
    from olivine.passes.calibrated import Calibrated
    from olivine.passes.quantize.expected_loss import LayerLoss

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
class DynamicQuantize(GraphPass):
    """Quantize weights and activations of the chosen layers to int8.

    Attributes:
        layers: a regular expression matched against the whole path of a layer (``layers.3/down_proj``).
        reduce_range: whether weights take 7 bits instead of 8.
        smooth: whether range is moved from the activations into the weights, learned from calibration text.
    """

    layers: str = LAYER_GROUPS["not_down"]
    reduce_range: bool = False
    smooth: bool = False

    name: ClassVar[str] = "dynamic_int8"
    requires: ClassVar[frozenset[str]] = frozenset({"onnx", "float"})
    ensures: ClassVar[frozenset[str]] = frozenset({"quantized"})
    axes: ClassVar[tuple[Axis, ...]] = (
        Axis(
            "activations",
            "choice",
            "float",
            "whether chosen layers also quantize their activations (faster prefill)",
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
            "which layers quantize their activations; down_proj suffers most: it is among them by default where "
            "`smooth` is",
            tuple(LAYER_GROUPS),
            applies=lambda choice: choice.get("activations") == "int8",
            default_of=lambda choice: "all" if choice.get("smooth") else "not_down",
        ),
        Axis(
            "reduce_range",
            "bool",
            False,
            "7 bits for weights beside int8 activations; the default on x86 without VNNI, where 8 would saturate",
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
        """Where ranges are moved: what they are is learned from text."""
        return self.smooth

    def rewrite(self, model: ir.Model) -> None:
        """Replace each chosen MatMul by MatMulIntegerToFloat behind a shared DynamicQuantizeLinear."""
        if self.smooth:
            raise PassRefused("dynamic_int8: smoothing learns from calibration text, and none was given")
        quantize_activations(model, self._chosen(model), top_code(self.reduce_range), {})

    def rewrite_calibrated(self, model: ir.Model, calibrated: Calibrated) -> None:
        """The same, with ranges moved from the activations into the weights."""
        chosen, top = self._chosen(model), top_code(self.reduce_range)
        quantize_activations(model, chosen, top, smoothing_of(chosen, calibrated, top))

    def _chosen(self, model: ir.Model) -> list[Linear]:
        chosen = [layer for layer in linears(model) if re.fullmatch(self.layers, layer.path)]
        if not chosen:
            raise PassRefused(f"dynamic_int8: no layer matches '{self.layers}'")
        return chosen


def smoothing_of(layers: Sequence[Linear], calibrated: Calibrated, top: int) -> dict[str, np.ndarray]:
    """Name of each activation that layers read -> what its channels are divided by, float32 [K].

    Args:
        layers: that will be dynamic int8.
        calibrated: what text has taught about their activations.
        top: the largest code of a weight.
    """
    readers: dict[str, list[Linear]] = {}
    for layer in layers:
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
) -> None:
    """Replace each layer's MatMul by MatMulIntegerToFloat behind a DynamicQuantizeLinear shared by all that read it.

    Args:
        model: the graph to change.
        layers: linear layers of it.
        top: the largest code of a weight.
        factors: name of an activation -> what its channels are divided by; those that are missing stay as they are.

    Raises:
        PassRefused: when a layer reads nothing.
    """
    quantized: dict[ir.Value, _Activation] = {}
    for layer in layers:
        activation = layer.node.inputs[0]
        if activation is None:
            raise PassRefused(f"dynamic_int8: {layer.path} reads no activation")
        if activation not in quantized:
            smooth = _divided(model, activation, factors.get(layer.reads), before=layer.node)
            quantized[activation] = _quantized(model, smooth, before=layer.node)
        _replace(model, layer, quantized[activation], top, factors.get(layer.reads))
    model.opset_imports.setdefault(MICROSOFT, 1)
    drop_unused(model)


def _quantized(model: ir.Model, activation: ir.Value, before: ir.Node) -> _Activation:
    name = f"{activation.name}/DynamicQuantizeLinear"
    node = ir.node("DynamicQuantizeLinear", [activation], num_outputs=3, name=name)
    for output, part in zip(node.outputs, ("codes", "scale", "zero_point"), strict=True):
        output.name = f"{name}/{part}"
    model.graph.insert_before(before, node)
    return node.outputs[0], node.outputs[1], node.outputs[2]


def _divided(model: ir.Model, activation: ir.Value, factors: np.ndarray | None, before: ir.Node) -> ir.Value:
    """An activation whose channels are divided by factors [K]; itself where there are none, or they are ones."""
    if factors is None or (factors == 1).all():
        return activation
    name = f"{activation.name}/Smooth"
    inverse = add_initializer(model, f"{name}_factors", ir.DataType.FLOAT, factors.shape, lambda: 1 / factors)
    node = ir.node("Mul", [activation, inverse], name=name)
    node.outputs[0].name = f"{name}/output_0"
    node.outputs[0].dtype, node.outputs[0].shape = activation.dtype, activation.shape
    model.graph.insert_before(before, node)
    return node.outputs[0]


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
