"""Weight-only quantization: MatMul -> MatMulNBits, each weight with its own width.

Rewrites every linear layer with a constant float weight. Left alone:

1. layers whose width is 0 (``lm_head: fp32``, or an override);
2. layers that another pass has already rewritten (``activations: int8``), be it all of them.

An embedding that shares its weight with the head (``tie_word_embeddings``) keeps a float copy of its own.
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
from olivine.passes.precisions import INTEGER_BITS, has_codes, is_integer
from olivine.passes.quantize.blocks.block_format import ALGORITHMS, BLOCK_SIZES, DAMPING, WIDTHS, BlockFormat
from olivine.passes.quantize.blocks.layer_codes import layer_codes
from olivine.passes.quantize.layer_format import Format
from olivine.passes.quantize.layer_loss import LayerLoss
from olivine.passes.quantize.layer_pattern import check_pattern
from olivine.passes.quantize.matmul_nbits import Stored, store_in_blocks
from olivine.passes.quantize.quantize_pass import QuantizePass

ACCURACY_LEVELS = (0, 1, 2, 3, 4)
#: Operators of layers that an earlier pass of the recipe has stored.
QUANTIZED = frozenset({"MatMulNBits", "MatMulIntegerToFloat"})


@dataclass(frozen=True)
class WeightOnlyQuantize(QuantizePass):
    """Quantize weights in blocks; activations stay float.

    Attributes:
        bits: width of a weight: 4 or 8; 2 is accepted by the kernels and allowed in ``overrides``.
        algorithm: ``rtn``, ``k_quant``, or ``gptq``, which learns from calibration text.
        block_size: weights along the input features that share a scale: 16, 32, 64, 128 or 256.
        symmetric: the zero point is fixed; k_quant always chooses one.
        accuracy_level: least precision of the kernel's arithmetic: 0 unset, 1 fp32, 2 fp16, 3 bf16, 4 int8.
        lm_head_bits: width of the head; 0 leaves it float.
        overrides: (pattern, bits) pairs, the first that matches the whole of a layer's path decides;
            paths are ``layers.3/down_proj`` and ``lm_head``; 0 bits leave a layer float.
        damping: of the Hessians that gptq learns from, as a share of their mean diagonal.
    """

    bits: int = 4
    algorithm: str = "rtn"
    block_size: int = 32
    symmetric: bool = True
    accuracy_level: int = 4
    lm_head_bits: int = 4
    overrides: tuple[tuple[str, int], ...] = ()
    damping: float = DAMPING

    name: ClassVar[str] = "weight_only"
    version: ClassVar[int] = 7
    later_params: ClassVar[frozenset[str]] = frozenset({"damping"})
    requires: ClassVar[frozenset[str]] = frozenset({"onnx", "float"})
    adds: ClassVar[frozenset[str]] = frozenset({"quantized"})
    removes: ClassVar[frozenset[str]] = frozenset({"float"})
    libraries: ClassVar[tuple[str, ...]] = ("onnx-ir", "torch", "numpy", "scipy")
    axes: ClassVar[tuple[Axis, ...]] = (
        Axis(
            "algorithm",
            "choice",
            "rtn",
            "method that chooses integer weights; gptq learns from calibration text",
            ALGORITHMS,
            applies=is_integer,
            calibrated=("gptq",),
        ),
        Axis("block_size", "choice", 32, "weights that share a scale", BLOCK_SIZES, applies=is_integer),
        Axis(
            "symmetric",
            "bool",
            True,
            "fix the zero point of integer weights; by default true with rtn and false with gptq (k_quant chooses one)",
            applies=lambda choice: is_integer(choice) and choice.get("algorithm") != "k_quant",
            default_of=lambda choice: choice.get("algorithm") != "gptq",
        ),
        Axis(
            "accuracy_level",
            "choice",
            4,
            "least precision of the integer kernels: 4 int8 (fast), 1 fp32, 0 the kernel's own choice",
            ACCURACY_LEVELS,
            # CUDA's kernels of ONNX Runtime 1.31 do not read it; later ones round activations at 4, in decoding alone.
            applies=lambda choice: has_codes(choice) and choice.get("provider") != "cuda",
        ),
        Axis(
            "lm_head",
            "choice",
            "same",
            "precision of the head; same follows `precision`",
            ("same", "fp32", "int8", "int4"),
            applies=has_codes,
        ),
        Axis(
            "damping",
            "float",
            DAMPING,
            "damping of the Hessians that gptq learns from; 0.1 loses less on other text than that of the calibration",
            bounds=(0.001, 1.0),
            applies=lambda choice: is_integer(choice) and choice.get("algorithm") == "gptq",
            later=True,
        ),
    )

    def __post_init__(self) -> None:
        """Check the parameters that a request file may bring."""
        widths = [bits for _, bits in self.overrides]
        for name, values, known in (
            ("bits", [self.bits], WIDTHS),
            ("lm_head_bits", [self.lm_head_bits], (0, *WIDTHS)),
            ("bits in overrides", widths, (0, *WIDTHS)),
            ("algorithm", [self.algorithm], ALGORITHMS),
            ("block_size", [self.block_size], BLOCK_SIZES),
            ("accuracy_level", [self.accuracy_level], ACCURACY_LEVELS),
        ):
            if wrong := [value for value in values if value not in known]:
                raise UsageError(f"weight_only: unknown {name} '{wrong[0]}'. {did_you_mean(wrong[0], known)}")
        for pattern, _ in self.overrides:
            check_pattern(self.name, pattern)

    @classmethod
    def from_choice(cls, choice: Choice) -> WeightOnlyQuantize | None:
        """The pass for ``precision: int4`` or ``int8``."""
        bits = INTEGER_BITS.get(str(choice["precision"]))
        if bits is None:
            return None
        head = str(choice["lm_head"])
        return cls(
            bits=bits,
            algorithm=str(choice["algorithm"]),
            block_size=int(choice["block_size"]),
            symmetric=bool(choice.get("symmetric", False)),
            accuracy_level=int(choice.get("accuracy_level", 0)),
            lm_head_bits=bits if head == "same" else INTEGER_BITS.get(head, 0),
            damping=float(choice.get("damping", DAMPING)),
        )

    def width(self, path: str) -> int:
        """Bits of the layer of this path; 0 leaves it float."""
        for pattern, bits in self.overrides:
            if re.fullmatch(pattern, path):
                return bits
        return self.lm_head_bits if path == HEAD else self.bits

    def formats(self, losses: Mapping[str, LayerLoss]) -> dict[str, Format]:
        """The width of each layer, all else alike."""
        return {path: self._form(bits) if (bits := self.width(path)) else None for path in losses}

    @property
    def kernels(self) -> frozenset[Kernel]:
        """One a width."""
        widths = {self.bits, self.lm_head_bits, *(bits for _, bits in self.overrides)} - {0}
        return frozenset(Kernel(bits, self.block_size, self.accuracy_level, "float") for bits in widths)

    @property
    def needs_calibration(self) -> bool:
        """True when the algorithm learns from text."""
        return self.algorithm == "gptq"

    def rewrite(self, model: ir.Model) -> None:
        """Replace each MatMul by MatMulNBits with weights that are computed as they are written."""
        self._rewrite(model, None)

    def rewrite_calibrated(self, model: ir.Model, calibrated: Calibrated) -> None:
        """Replace each MatMul by MatMulNBits with weights that were learned from text."""
        self._rewrite(model, calibrated)

    def _rewrite(self, model: ir.Model, calibrated: Calibrated | None) -> None:
        stored = [layer for bits in WIDTHS for layer in self._stored(model, bits, calibrated)]
        if not stored and not any(node.op_type in QUANTIZED for node in model.graph):
            raise PassRefused("weight_only: no MatMul with a constant weight is left to quantize")
        store_in_blocks(model, stored, self.accuracy_level)

    def _stored(self, model: ir.Model, bits: int, calibrated: Calibrated | None) -> Iterator[Stored]:
        """The layers of one width."""
        layers = [layer for layer in linears(model) if self.width(layer.path) == bits]
        form = self._form(bits)
        if layers:
            for layer, codes in zip(layers, layer_codes(layers, form, calibrated), strict=True):
                yield Stored(layer, form, codes)

    def _form(self, bits: int) -> BlockFormat:
        return BlockFormat(bits, self.algorithm, self.block_size, self.symmetric, self.damping)
