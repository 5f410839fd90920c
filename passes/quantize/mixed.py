"""Mixed precision: each layer in the format that it stands, by its predicted share of the divergence.

Three formats, from the least loss to the least bytes:

1. dynamic int8 (``dynamic.py``): fastest on prompts; only layers that ``dynamic_layers`` names;
2. int8 in blocks, round to nearest;
3. int4 in blocks, by the recipe's algorithm.

Each share is a budget of weights. Dynamic int8 takes the layers that save the most divergence per weight, or lose the
least, against what they would be without it, as long as they fit; int8 those that save the most against int4; what no
format takes is int4. The head is one of the layers unless it has a precision of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from olivine.passes.base import Axis, Choice
from olivine.passes.errors import PassRefused, UsageError, did_you_mean
from olivine.passes.graph import HEAD, linears
from olivine.passes.kernel import Kernel
from olivine.passes.learn.calibrated import Calibrated
from olivine.passes.precisions import is_mixed
from olivine.passes.quantize.activations.activation_range import by_token, check_range
from olivine.passes.quantize.activations.fold_division import fold_divisions
from olivine.passes.quantize.activations.integer_matmul import top_code
from olivine.passes.quantize.activations.store_dynamic import store_dynamic
from olivine.passes.quantize.blocks.block_format import BLOCK_SIZES, DAMPING, BlockFormat
from olivine.passes.quantize.blocks.layer_codes import layer_codes
from olivine.passes.quantize.dynamic import DYNAMIC_KERNELS, LAYER_GROUPS
from olivine.passes.quantize.expected_loss import expected_losses
from olivine.passes.quantize.layer_format import DynamicInt8, Format
from olivine.passes.quantize.layer_loss import LayerLoss
from olivine.passes.quantize.layer_pattern import check_pattern
from olivine.passes.quantize.matmul_nbits import Stored, store_in_blocks
from olivine.passes.quantize.quantize_pass import QuantizePass

HEADS = ("same", "fp32", "int8", "int4")


@dataclass(frozen=True)
class MixedQuantize(QuantizePass):
    """Quantize each layer in the format that it stands.

    Attributes:
        int8_share: share of the weights that are left after dynamic int8, 0 to 1, stored in 8 bits.
        int8_block_size: block size of those.
        algorithm: of the 4-bit weights: ``rtn``, ``k_quant`` or ``gptq``.
        block_size: of the 4-bit weights.
        symmetric: zero points are fixed.
        accuracy_level: least precision of the kernel's arithmetic.
        lm_head: ``same`` as any other layer, or its own ``fp32``, ``int8`` or ``int4``.
        dynamic_layers: a regular expression for the paths of layers that may be dynamic int8; empty for none.
        dynamic_share: share of the weights of those that are, 0 to 1.
        reduce_range: weights of those take 7 bits instead of 8.
        smooth: range is moved from the activations of those into their weights (``smoothing.py``).
        activation_range: what of those activations has a range of its own (``dynamic.py``).
        learned: weights of those are rounded by what calibration text says.
        damping: of the Hessians that gptq learns from, as a share of their mean diagonal.
    """

    int8_share: float = 0.3
    int8_block_size: int = 64
    algorithm: str = "rtn"
    block_size: int = 32
    symmetric: bool = False
    accuracy_level: int = 4
    lm_head: str = "same"
    dynamic_layers: str = ""
    dynamic_share: float = 0.0
    reduce_range: bool = False
    smooth: bool = False
    activation_range: str = "tensor"
    damping: float = DAMPING
    learned: bool = False

    name: ClassVar[str] = "mixed"
    later_params: ClassVar[frozenset[str]] = frozenset({"activation_range", "damping", "learned"})
    version: ClassVar[int] = 6
    requires: ClassVar[frozenset[str]] = frozenset({"onnx", "float"})
    adds: ClassVar[frozenset[str]] = frozenset({"quantized"})
    removes: ClassVar[frozenset[str]] = frozenset({"float"})
    libraries: ClassVar[tuple[str, ...]] = ("onnx-ir", "torch", "numpy", "scipy", "transformers")
    axes: ClassVar[tuple[Axis, ...]] = (
        Axis(
            "int8_share",
            "float",
            0.3,
            "share of a mixed model's weights that stay at 8 bits: those with the largest loss at 4 bits",
            bounds=(0.0, 1.0),
            applies=is_mixed,
            ablated_value=0.0,
        ),
        Axis(
            "int8_block_size",
            "choice",
            64,
            "weights that share a scale in the 8-bit layers of a mixed model",
            BLOCK_SIZES,
            applies=is_mixed,
        ),
        Axis(
            "dynamic_share",
            "float",
            1.0,
            "share of the weights of `dynamic_layers` whose activations are quantized in a mixed model",
            bounds=(0.0, 1.0),
            applies=lambda choice: is_mixed(choice) and choice.get("activations") == "int8",
        ),
    )

    def __post_init__(self) -> None:
        """Check the parameters that a request file may bring."""
        self._four(), self._eight()
        check_pattern(self.name, self.dynamic_layers)
        check_range(self.name, self.activation_range, self.smooth, self.learned)
        if self.lm_head not in HEADS:
            raise UsageError(f"mixed: unknown lm_head '{self.lm_head}'. {did_you_mean(self.lm_head, HEADS)}")
        for name, share in (("int8_share", self.int8_share), ("dynamic_share", self.dynamic_share)):
            if not 0 <= share <= 1:
                raise UsageError(f"mixed: {name} is {share}; a share lies between 0 and 1")

    @classmethod
    def from_choice(cls, choice: Choice) -> MixedQuantize | None:
        """The pass for ``precision: mixed``."""
        if not is_mixed(choice):
            return None
        share = float(choice.get("dynamic_share", 0.0))
        return cls(
            int8_share=float(choice["int8_share"]),
            int8_block_size=int(choice["int8_block_size"]),
            algorithm=str(choice["algorithm"]),
            block_size=int(choice["block_size"]),
            symmetric=bool(choice.get("symmetric", False)),
            accuracy_level=int(choice.get("accuracy_level", 0)),
            lm_head=str(choice["lm_head"]),
            dynamic_layers=LAYER_GROUPS[str(choice["dynamic_layers"])] if share else "",
            dynamic_share=share,
            reduce_range=bool(share and choice["reduce_range"]),
            smooth=bool(share and choice.get("smooth", False)),
            activation_range=str(choice.get("activation_range", "tensor")) if share else "tensor",
            damping=float(choice.get("damping", DAMPING)),
            learned=bool(share and choice.get("dynamic_weights") == "learned"),
        )

    @property
    def kernels(self) -> frozenset[Kernel]:
        """Those of the formats that it may give a layer."""
        forms = [self._four()] + [self._eight()] * (self.int8_share > 0 or self.lm_head == "int8")
        kernels = {Kernel(form.bits, form.block_size, self.accuracy_level, "float") for form in forms}
        return frozenset(kernels | (DYNAMIC_KERNELS[self.activation_range] if self.dynamic_layers else set()))

    @property
    def needs_calibration(self) -> bool:
        """Sensitivities are learned from text."""
        return True

    def rewrite(self, model: ir.Model) -> None:
        """Refuse: without text nothing is known of any layer.

        Raises:
            PassRefused: always.
        """
        raise PassRefused("mixed: sensitivities are learned from calibration text, and none was given")

    def rewrite_calibrated(self, model: ir.Model, calibrated: Calibrated) -> None:
        """Store every linear layer in the format that :meth:`formats` gives it."""
        layers = {layer.path: layer for layer in linears(model)}
        if not layers:
            raise PassRefused("mixed: no MatMul with a constant weight is left to quantize")
        losses = expected_losses(calibrated)
        formats = self.formats({path: losses[path] for path in layers})
        stored = []
        for form in (self._four(), self._eight()):
            alike = [layers[path] for path, chosen in formats.items() if chosen == form]
            codes = layer_codes(alike, form, calibrated) if alike else []
            stored += [Stored(layer, form, compute) for layer, compute in zip(alike, codes, strict=True)]
        dynamic = [(layers[path], chosen) for path, chosen in formats.items() if isinstance(chosen, DynamicInt8)]
        divisions = store_dynamic(model, dynamic, calibrated)
        store_in_blocks(model, stored, self.accuracy_level)
        fold_divisions(model, divisions)

    def formats(self, losses: Mapping[str, LayerLoss]) -> dict[str, Format]:
        """The allocation, by the expected losses of each layer in each format."""
        four, eight = self._four(), self._eight()
        sizes = {path: loss.weights for path, loss in losses.items()}
        heads: dict[str, Format] = {"fp32": None, "int8": eight, "int4": four}
        fixed = {} if self.lm_head == "same" else {HEAD: heads[self.lm_head]}
        free = {path: loss for path, loss in losses.items() if path not in fixed}
        fitting = {p for p in free if self.dynamic_layers and re.fullmatch(self.dynamic_layers, p)}
        rest = self._at_eight(free, sizes)
        otherwise = {p: free[p].of(eight if p in rest else four) for p in fitting}
        saved = {p: loss - free[p].of_dynamic(self._dynamic(p)) for p, loss in otherwise.items()}
        dynamic = worth_most(saved, sizes, self.dynamic_share)
        at_eight = self._at_eight({p: loss for p, loss in free.items() if p not in dynamic}, sizes)

        def choose(path: str) -> Format:
            if path in fixed:
                return fixed[path]
            return self._dynamic(path) if path in dynamic else eight if path in at_eight else four

        return {path: choose(path) for path in losses}

    def _at_eight(self, losses: Mapping[str, LayerLoss], sizes: Mapping[str, int]) -> frozenset[str]:
        """Of layers that share int8 and int4 in blocks: those that are int8."""
        four, eight = self._four(), self._eight()
        saved = {path: loss.of(four) - loss.of(eight) for path, loss in losses.items()}
        return worth_most(saved, sizes, self.int8_share)

    def _four(self) -> BlockFormat:
        return BlockFormat(4, self.algorithm, self.block_size, self.symmetric, self.damping)

    def _eight(self) -> BlockFormat:
        return BlockFormat(8, "rtn", self.int8_block_size, self.symmetric)

    def _dynamic(self, path: str) -> DynamicInt8:
        tokens = by_token(path, self.activation_range)
        return DynamicInt8(top_code(self.reduce_range), self.smooth, tokens, self.learned)


def worth_most(savings: Mapping[str, float], sizes: Mapping[str, int], share: float) -> frozenset[str]:
    """The items that save the most per size, as many as fit into a share of the total size.

    The greedy solution of the knapsack problem (Dantzig 1957): the next best item that still fits.

    Args:
        savings: of each item that may be taken.
        sizes: of at least these items.
        share: of their total size, 0 to 1.
    """
    return frozenset(_packed(savings, sizes, share * sum(sizes[item] for item in savings)))


def _packed(savings: Mapping[str, float], sizes: Mapping[str, int], room: float) -> Iterator[str]:
    for item in sorted(savings, key=lambda item: (-savings[item] / sizes[item], item)):
        if sizes[item] <= room:
            room -= sizes[item]
            yield item
