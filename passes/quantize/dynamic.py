"""Dynamic int8: activations are quantized as they come, and the product is taken in integers.

Weights are int8, symmetric, one scale an output channel; activations uint8, one scale and zero point a tensor. With
``activation_range: token`` each token has a scale of its own (``activations/row_scale.py``). ``token_down`` does so for
down_proj alone, which needs it most: what the others read comes from a norm, which has scaled each token already, or is
a mean of values; ``token_outputs`` for o_proj as well. Weights are rounded to nearest, or with ``dynamic_weights:
learned`` so that their output changes little on calibration text (``activations/learned_weights.py``).
With ``reduce_range`` weights take 7 bits, so that the sums of CPUs without VNNI do not saturate.
One DynamicQuantizeLinear serves all the layers that read the same activation (gate and up; q, k and v). With ``smooth``
what down_proj reads is divided, channel by channel, before that (``smoothing.py``), so that it stands it too. Its
outliers are the largest; and its division costs nothing, where it can be folded into up_proj
(``activations/fold_division.py``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import onnx_ir as ir

from olivine.passes.base import Axis, Choice
from olivine.passes.cpu import int8_sums_saturate
from olivine.passes.errors import PassRefused
from olivine.passes.graph import Linear, linears
from olivine.passes.kernel import DYNAMIC_INT8, DYNAMIC_INT8_BY_TOKEN, Kernel
from olivine.passes.learn.calibrated import Calibrated
from olivine.passes.precisions import is_integer, is_mixed
from olivine.passes.quantize.activations.activation_range import TOKEN_RANGES, by_token, check_range
from olivine.passes.quantize.activations.fold_division import fold_divisions
from olivine.passes.quantize.activations.integer_matmul import top_code
from olivine.passes.quantize.activations.store_dynamic import store_dynamic
from olivine.passes.quantize.layer_format import DynamicInt8, Format
from olivine.passes.quantize.layer_loss import LayerLoss
from olivine.passes.quantize.layer_pattern import check_pattern
from olivine.passes.quantize.quantize_pass import QuantizePass

#: Named choices of layers. The head is in none: its error reaches every logit undamped, decode gains little.
LAYER_GROUPS = {
    "all": r"layers\.\d+/.*",
    "not_down": r"layers\.\d+/(?!down_proj).*",
    "attention": r"layers\.\d+/(q|k|v|qkv|o)_proj",
    "mlp": r"layers\.\d+/(gate|up|gate_up|down)_proj",
    "mlp_in": r"layers\.\d+/(gate|up|gate_up)_proj",
}
#: Word of the axis ``activation_range`` -> the kernels that layers with int8 activations may need.
DYNAMIC_KERNELS = {
    "tensor": frozenset({DYNAMIC_INT8}),
    "token": frozenset({DYNAMIC_INT8_BY_TOKEN}),
    "token_down": frozenset({DYNAMIC_INT8, DYNAMIC_INT8_BY_TOKEN}),
    "token_outputs": frozenset({DYNAMIC_INT8, DYNAMIC_INT8_BY_TOKEN}),
}


def _by_tensor(choice: Choice) -> bool:
    return choice.get("activation_range", "tensor") == "tensor"


@dataclass(frozen=True)
class DynamicQuantize(QuantizePass):
    """Quantize weights and activations of the chosen layers to int8.

    Attributes:
        layers: a regular expression matched against the whole path of a layer (``layers.3/down_proj``).
        reduce_range: weights take 7 bits instead of 8.
        smooth: range is moved from the activations into the weights, learned from calibration text.
        activation_range: what has a range of its own: each ``tensor``, each ``token``, or each token of what
            down_proj reads (``token_down``), or o_proj and down_proj (``token_outputs``).
        learned: weights are rounded by what calibration text says, where tokens have ranges.
    """

    layers: str = LAYER_GROUPS["not_down"]
    reduce_range: bool = False
    smooth: bool = False
    activation_range: str = "tensor"
    learned: bool = False

    name: ClassVar[str] = "dynamic_int8"
    later_params: ClassVar[frozenset[str]] = frozenset({"activation_range", "learned"})
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
            "activation_range",
            "choice",
            "tensor",
            "what has a range of its own when activations are quantized: tensor, token, token_down, which is token "
            "for down_proj alone, or token_outputs, which is token for o_proj and down_proj",
            tuple(TOKEN_RANGES),
            applies=lambda choice: choice.get("activations") == "int8",
            later=True,
        ),
        Axis(
            "smooth",
            "bool",
            False,
            "move range from quantized activations into the weights (SmoothQuant), learned from calibration text; for "
            "`activation_range: tensor`",
            applies=lambda choice: choice.get("activations") == "int8" and _by_tensor(choice),
            calibrated=(True,),
        ),
        Axis(
            "dynamic_layers",
            "choice",
            "not_down",
            "layers whose activations are quantized; down_proj, which loses most, is by default only with `smooth` or "
            "a range a token",
            tuple(LAYER_GROUPS),
            applies=lambda choice: choice.get("activations") == "int8",
            default_of=lambda choice: "all" if choice.get("smooth") or not _by_tensor(choice) else "not_down",
        ),
        Axis(
            "dynamic_weights",
            "choice",
            "nearest",
            "rounding of the weights beside quantized activations with ranges by token: nearest, or learned from "
            "calibration text by GPTQ",
            ("nearest", "learned"),
            applies=lambda choice: choice.get("activations") == "int8" and not _by_tensor(choice),
            calibrated=("learned",),
            later=True,
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
        check_range(self.name, self.activation_range, self.smooth, self.learned)

    @classmethod
    def from_choice(cls, choice: Choice) -> DynamicQuantize | None:
        """The pass for ``activations: int8``."""
        if choice.get("activations", "float") == "float" or is_mixed(choice):
            return None  # mixed precision chooses these layers itself
        return cls(
            LAYER_GROUPS[str(choice["dynamic_layers"])],
            bool(choice["reduce_range"]),
            bool(choice.get("smooth", False)),
            str(choice.get("activation_range", "tensor")),
            choice.get("dynamic_weights") == "learned",
        )

    def formats(self, losses: Mapping[str, LayerLoss]) -> dict[str, Format]:
        """Dynamic int8 for every layer that the pattern matches."""
        return {path: self._format(path) for path in losses if re.fullmatch(self.layers, path)}

    @property
    def needs_calibration(self) -> bool:
        """True when ranges are moved or weights are learned: text says how."""
        return self.smooth or self.learned

    @property
    def kernels(self) -> frozenset[Kernel]:
        """Those of int8 activations."""
        return DYNAMIC_KERNELS[self.activation_range]

    def rewrite(self, model: ir.Model) -> None:
        """Replace each chosen MatMul by MatMulIntegerToFloat behind a shared DynamicQuantizeLinear."""
        if self.needs_calibration:
            what = "smoothing learns" if self.smooth else "its weights learn"
            raise PassRefused(f"dynamic_int8: {what} from calibration text, and none was given")
        store_dynamic(model, self._chosen(model))

    def rewrite_calibrated(self, model: ir.Model, calibrated: Calibrated) -> None:
        """The same, with ranges moved from the activations into the weights, or weights that are learned."""
        fold_divisions(model, store_dynamic(model, self._chosen(model), calibrated))

    def _chosen(self, model: ir.Model) -> list[tuple[Linear, DynamicInt8]]:
        chosen = [layer for layer in linears(model) if re.fullmatch(self.layers, layer.path)]
        if not chosen:
            raise PassRefused(f"dynamic_int8: no layer matches '{self.layers}'")
        return [(layer, self._format(layer.path)) for layer in chosen]

    def _format(self, path: str) -> DynamicInt8:
        form = DynamicInt8(top_code(self.reduce_range), self.smooth, learned=self.learned)
        return replace(form, by_token=by_token(path, self.activation_range))
