"""Weight-only quantization: MatMul -> MatMulNBits, each weight with its own width.

Rewrites every linear layer with a constant float weight. Left alone:

1. layers whose width is 0 (``lm_head: fp32``, or an override);
2. layers that another pass has already rewritten (``activations: int8``).

An embedding that shares its weight with the head (``tie_word_embeddings``) keeps a float copy of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import onnx_ir as ir

from olivine.passes.base import Axis, Choice, GraphPass
from olivine.passes.errors import PassRefused, UsageError, did_you_mean
from olivine.passes.graph import MICROSOFT, Linear, add_initializer, drop_unused, linears, replace_node
from olivine.passes.quantize.blockwise import quantize_blocks
from olivine.passes.quantize.embedding import untie_embedding
from olivine.passes.quantize.gptq import Job, gptq_all
from olivine.passes.quantize.layer_pattern import check_pattern
from olivine.passes.quantize.packing import BlockCodes

if TYPE_CHECKING:
    from olivine.passes.calibration import Hessians

INTEGER_BITS = {"int4": 4, "int8": 8}
WIDTHS = (2, 4, 8)
ALGORITHMS = ("rtn", "k_quant", "gptq")
BLOCK_SIZES = (16, 32, 64, 128, 256)
ACCURACY_LEVELS = (0, 1, 2, 3, 4)


def is_integer(choice: Choice) -> bool:
    """Whether the chosen precision stores weights as integers."""
    return choice.get("precision") in INTEGER_BITS


@dataclass(frozen=True)
class WeightOnlyQuantize(GraphPass):
    """Quantize weights in blocks; activations stay float.

    Attributes:
        bits: width of a weight: 4 or 8; 2 is accepted by the kernels and allowed in ``overrides``.
        algorithm: ``rtn``, ``k_quant``, or ``gptq``, which learns from calibration text.
        block_size: weights along the input features that share a scale: 16, 32, 64, 128 or 256.
        symmetric: whether the zero point is fixed; k_quant always chooses one.
        accuracy_level: least precision of the kernel's arithmetic: 0 unset, 1 fp32, 2 fp16, 3 bf16, 4 int8.
        lm_head_bits: width of the head; 0 leaves it float.
        overrides: (pattern, bits) pairs, the first that matches the whole of a layer's path decides;
            paths are ``layers.3/down_proj`` and ``lm_head``; 0 bits leave a layer float.
    """

    bits: int = 4
    algorithm: str = "rtn"
    block_size: int = 32
    symmetric: bool = True
    accuracy_level: int = 4
    lm_head_bits: int = 4
    overrides: tuple[tuple[str, int], ...] = ()

    name: ClassVar[str] = "weight_only"
    version: ClassVar[int] = 2
    requires: ClassVar[frozenset[str]] = frozenset({"onnx", "float"})
    ensures: ClassVar[frozenset[str]] = frozenset({"quantized"})
    breaks: ClassVar[frozenset[str]] = frozenset({"float"})
    libraries: ClassVar[tuple[str, ...]] = ("onnx-ir", "torch", "numpy", "scipy")
    axes: ClassVar[tuple[Axis, ...]] = (
        Axis(
            "algorithm",
            "choice",
            "rtn",
            "how integer weights are chosen; gptq learns from calibration text",
            ALGORITHMS,
            applies=is_integer,
            calibrated=("gptq",),
        ),
        Axis("block_size", "choice", 32, "weights that share a scale", BLOCK_SIZES, applies=is_integer),
        Axis(
            "symmetric",
            "bool",
            True,
            "whether the zero point of integer weights is fixed; true with rtn, false with gptq (k_quant chooses one)",
            applies=lambda choice: is_integer(choice) and choice.get("algorithm") != "k_quant",
            default_of=lambda choice: choice.get("algorithm") != "gptq",
        ),
        Axis(
            "accuracy_level",
            "choice",
            4,
            "least precision of the integer kernels: 4 int8 (fast), 1 fp32, 0 the kernel's own choice",
            ACCURACY_LEVELS,
            applies=is_integer,
        ),
        Axis(
            "lm_head",
            "choice",
            "same",
            "precision of the head; same follows `precision`",
            ("same", "fp32", "int8", "int4"),
            applies=is_integer,
        ),
    )

    def __post_init__(self) -> None:
        """Check the parameters that a request file may bring."""
        widths = [bits for _, bits in self.overrides]
        for name, found, known in (
            ("bits", [self.bits], WIDTHS),
            ("lm_head_bits", [self.lm_head_bits], (0, *WIDTHS)),
            ("bits in overrides", widths, (0, *WIDTHS)),
            ("algorithm", [self.algorithm], ALGORITHMS),
            ("block_size", [self.block_size], BLOCK_SIZES),
            ("accuracy_level", [self.accuracy_level], ACCURACY_LEVELS),
        ):
            if wrong := [value for value in found if value not in known]:
                raise UsageError(f"weight_only: unknown {name} '{wrong[0]}'. {did_you_mean(wrong[0], known)}")
        for pattern, _ in self.overrides:
            check_pattern(self.name, pattern)

    @classmethod
    def from_choice(cls, choice: Choice) -> WeightOnlyQuantize | None:
        """The pass for ``precision: int4`` or ``int8``."""
        if not is_integer(choice):
            return None
        bits = INTEGER_BITS[str(choice["precision"])]
        head = str(choice["lm_head"])
        return cls(
            bits=bits,
            algorithm=str(choice["algorithm"]),
            block_size=int(choice["block_size"]),
            symmetric=bool(choice.get("symmetric", False)),
            accuracy_level=int(choice["accuracy_level"]),
            lm_head_bits=bits if head == "same" else INTEGER_BITS.get(head, 0),
        )

    def width(self, layer: Linear) -> int:
        """Bits of one layer; 0 leaves it float."""
        for pattern, bits in self.overrides:
            if re.fullmatch(pattern, layer.path):
                return bits
        return self.lm_head_bits if layer.role == "lm_head" else self.bits

    @property
    def needs_calibration(self) -> bool:
        """Whether the algorithm learns from text."""
        return self.algorithm == "gptq"

    def rewrite(self, model: ir.Model) -> None:
        """Replace each MatMul by MatMulNBits with weights that are computed as they are written."""
        if self.needs_calibration:
            raise PassRefused(f"weight_only: {self.algorithm} learns from calibration text, and none was given")
        chosen = self._chosen(model)
        self._replace_all(model, chosen, [partial(self._quantized, layer, bits) for layer, bits in chosen])

    def _quantized(self, layer: Linear, bits: int) -> BlockCodes:
        return quantize_blocks(layer.array(), bits, self.block_size, self.algorithm, self.symmetric)

    def rewrite_calibrated(self, model: ir.Model, hessians: Hessians) -> None:
        """Replace each MatMul by MatMulNBits with weights that GPTQ has chosen."""
        chosen = self._chosen(model)
        jobs = [
            Job(layer.array(), self._hessian(layer, hessians), bits, self.block_size, self.symmetric)
            for layer, bits in chosen
        ]
        self._replace_all(model, chosen, [_always(codes) for codes in gptq_all(jobs)])

    def _hessian(self, layer: Linear, hessians: Hessians) -> np.ndarray:
        activation = layer.node.inputs[0]
        found = hessians.of(activation.name if activation is not None else None)
        if found is None:
            raise PassRefused(f"weight_only: calibration captured nothing of what {layer.path} reads")
        return found

    def _chosen(self, model: ir.Model) -> list[tuple[Linear, int]]:
        chosen = [(layer, bits) for layer in linears(model) if (bits := self.width(layer))]
        if not chosen:
            raise PassRefused("weight_only: no MatMul with a constant weight is left to quantize")
        return chosen

    def _replace_all(
        self, model: ir.Model, layers: Sequence[tuple[Linear, int]], codes: Sequence[Callable[[], BlockCodes]]
    ) -> None:
        untie_embedding(model)
        for (layer, bits), compute in zip(layers, codes, strict=True):
            self._replace(model, layer, bits, compute)
        model.opset_imports.setdefault(MICROSOFT, 1)
        drop_unused(model)

    def _replace(self, model: ir.Model, layer: Linear, bits: int, compute: Callable[[], BlockCodes]) -> None:
        k, n = layer.shape
        blocks = -(-k // self.block_size)
        stem = f"{layer.weight.name}_Q{bits}"
        dtype = layer.dtype
        parts = ["codes", "scales"] if self._fixed_zero_point() else ["codes", "scales", "zero_points"]
        codes = _Shared(compute, len(parts))
        inputs: list[ir.Value | None] = [
            layer.node.inputs[0],
            add_initializer(
                model,
                stem,
                ir.DataType.UINT8,
                (n, blocks, self.block_size * bits // 8),
                lambda: codes.take().packed_codes(),
            ),
            add_initializer(
                model, f"{stem}_scales", dtype, (n, blocks), lambda: codes.take().scales.astype(dtype.numpy())
            ),
        ]
        if "zero_points" in parts:
            shape = (n, -(-blocks * bits // 8))
            inputs.append(
                add_initializer(
                    model,
                    f"{stem}_zero_points",
                    ir.DataType.UINT8,
                    shape,
                    lambda: _present(codes.take().packed_zero_points()),
                )
            )
        attributes: dict[str, Any] = {
            "K": k,
            "N": n,
            "bits": bits,
            "block_size": self.block_size,
            "accuracy_level": self.accuracy_level,
        }
        name = f"{layer.node.name}_Q{bits}"
        replace_node(model, layer.node, ir.node("MatMulNBits", inputs, attributes, domain=MICROSOFT, name=name))

    def _fixed_zero_point(self) -> bool:
        return self.symmetric and self.algorithm != "k_quant"


def _always(codes: BlockCodes) -> Callable[[], BlockCodes]:
    return lambda: codes


class _Shared:
    """One quantization for the tensors that are written from it, dropped after the last has taken it."""

    def __init__(self, compute: Callable[[], BlockCodes], readers: int) -> None:
        self._compute, self._readers, self._left = compute, readers, readers
        self._codes: BlockCodes | None = None

    def take(self) -> BlockCodes:
        codes = self._codes if self._codes is not None else self._compute()
        self._left -= 1
        self._codes = codes if self._left else None
        if not self._left:
            self._left = self._readers
        return codes


def _present(array: np.ndarray | None) -> np.ndarray:
    if array is None:
        raise ValueError("symmetric codes have no zero points")
    return array
