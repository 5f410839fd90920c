"""AsItCame: MatMul -> MatMulNBits with the codes, scales and zero points that the checkpoint brought.

1. A layer whose inputs are in another order (GPTQ's act-order) reads them through a Gather, once for all layers that
   share input and order; its columns stand in the order of the groups.
2. A layer that the exporter merged is put together from its parts where they share group, width and order.
3. A code of 3 bits is stored in 4, one of 5 to 7 in 8: its value is the same. A group that is no block size of the
   kernel is stored as several blocks with the same scale.
4. Left float: layers that the checkpoint keeps float, and experts.

Source of the operator: ONNX Runtime's ContribOperators.md, ``com.microsoft.MatMulNBits``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from olivine.passes.base import Choice, GraphPass
from olivine.passes.errors import PassRefused, UsageError, did_you_mean
from olivine.passes.graph import HEAD, Linear, add_initializer, linears
from olivine.passes.learn.merged_layers import Piece, pieces
from olivine.passes.precisions import AS_IT_CAME, INTEGER_BITS
from olivine.passes.quantize.blocks.block_format import BLOCK_SIZES, BlockFormat
from olivine.passes.quantize.blocks.layer_codes import layer_codes
from olivine.passes.quantize.blocks.packing import BlockCodes, PackedCodes
from olivine.passes.quantize.matmul_nbits import Stored, store_in_blocks
from olivine.passes.quantize.weight_only import ACCURACY_LEVELS
from olivine.passes.sources.codes.coded_weight import CodedWeight, coded_layers

#: Blocks of a head that the checkpoint keeps float, where it is quantized here.
_HEAD_BLOCK = 32


@dataclass(frozen=True)
class AsItCame(GraphPass):
    """Store each layer that the checkpoint has codes of with these codes.

    Attributes:
        accuracy_level: least precision of the kernel's arithmetic, as in ``WeightOnlyQuantize``.
        lm_head_bits: width of a head that the checkpoint keeps float; 0 leaves it float.
    """

    accuracy_level: int = 4
    lm_head_bits: int = 0

    name: ClassVar[str] = AS_IT_CAME
    requires: ClassVar[frozenset[str]] = frozenset({"onnx", "float", "codes"})
    adds: ClassVar[frozenset[str]] = frozenset({"quantized"})
    removes: ClassVar[frozenset[str]] = frozenset({"float"})
    libraries: ClassVar[tuple[str, ...]] = ("onnx-ir", "numpy")

    def __post_init__(self) -> None:
        """Check the parameters that a request file may bring."""
        for name, value, known in (
            ("accuracy_level", self.accuracy_level, ACCURACY_LEVELS),
            ("lm_head_bits", self.lm_head_bits, (0, *INTEGER_BITS.values())),
        ):
            if value not in known:
                raise UsageError(f"{self.name}: unknown {name} '{value}'. {did_you_mean(value, known)}")

    @classmethod
    def from_choice(cls, choice: Choice) -> AsItCame | None:
        """The pass for ``precision: as_it_came``."""
        if choice.get("precision") != AS_IT_CAME:
            return None
        return cls(int(choice.get("accuracy_level", 0)), INTEGER_BITS.get(str(choice.get("lm_head")), 0))

    def refuse(self, properties: frozenset[str]) -> str | None:
        """Only a checkpoint of codes has them, and a rotated one has lost them."""
        if "rotated" in properties:
            return f"pass '{self.name}' does not apply to a rotated model: its codes are those before the rotation"
        if properties >= self.requires - {"codes"} and "codes" not in properties:
            return f"pass '{self.name}' requires codes, which a checkpoint has that is quantized already"
        return super().refuse(properties)

    def rewrite(self, model: ir.Model) -> None:
        """Refuse a graph without its checkpoint, which has the codes."""
        raise PassRefused(f"{self.name}: a graph alone has no codes; its checkpoint has")

    def rewrite_coded(self, model: ir.Model, checkpoint: Path) -> None:
        """Replace each MatMul that the checkpoint has codes of.

        Args:
            model: changed in place.
            checkpoint: of the cache, with the folder of codes.

        Raises:
            PassRefused: when no layer has codes, or those of a merged layer can't be merged.
        """
        files = coded_layers(checkpoint)
        layers = list(linears(model))
        own = {layer.path: layer.shape[1] for layer in layers}
        rows = {path: len(CodedWeight.load(file).scales) for path, file in files.items()}
        orders: dict[tuple[str, bytes], ir.Value] = {}
        stored = []
        for layer in layers:
            parts = pieces(layer.path, own, rows)
            if parts is not None:
                stored.append(_stored(model, layer, [(files[part.path], part) for part in parts], orders))
            elif layer.path == HEAD and self.lm_head_bits:
                form = BlockFormat(self.lm_head_bits, "rtn", _HEAD_BLOCK, True)
                stored.append(Stored(layer, form, layer_codes([layer], form)[0]))
        if not any(item.layer.path != HEAD for item in stored):
            raise PassRefused(f"{self.name}: no layer of the graph is one that the checkpoint has codes of")
        store_in_blocks(model, stored, self.accuracy_level)


def _stored(
    model: ir.Model, layer: Linear, files: list[tuple[Path, Piece]], orders: dict[tuple[str, bytes], ir.Value]
) -> Stored:
    whole = _merged(layer.path, files)
    block = next((size for size in reversed(BLOCK_SIZES) if whole.group_size % size == 0), 0)
    if not block:
        raise PassRefused(
            f"{layer.path}: its groups of {whole.group_size} are no multiple of {BLOCK_SIZES[0]}, the least that "
            "MatMulNBits takes. The other precisions quantize its float weights anew"
        )
    if whole.order is not None:
        _reorder(model, layer, whole.order, orders)
    form = BlockFormat(_width(whole.bits), "rtn", block, symmetric=False)
    return Stored(layer, form, partial(_packed, layer, files, block))


def _merged(path: str, files: list[tuple[Path, Piece]]) -> CodedWeight:
    """The codes of a layer, its parts side by side.

    Raises:
        PassRefused: when the parts do not share group, width and order of the inputs.
    """
    parts = [_rows(CodedWeight.load(file), piece) for file, piece in files]
    first = parts[0]
    for other in parts[1:]:
        if (first.bits, first.group_size) != (other.bits, other.group_size) or not _same_order(first, other):
            raise PassRefused(
                f"{path}: the checkpoint quantized its parts with different groups, widths or orders of the inputs, so "
                "they can't be merged as they came. Use fusion_level: none"
            )
    codes, scales, zeros = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("codes", "scales", "zero_points")
    )
    return replace(first, codes=codes, scales=scales, zero_points=zeros)


def _same_order(first: CodedWeight, other: CodedWeight) -> bool:
    if first.order is None or other.order is None:
        return first.order is other.order
    return np.array_equal(first.order, other.order)


def _rows(weight: CodedWeight, piece: Piece) -> CodedWeight:
    own = slice(piece.start, piece.stop)
    return replace(weight, codes=weight.codes[own], scales=weight.scales[own], zero_points=weight.zero_points[own])


def _packed(layer: Linear, files: list[tuple[Path, Piece]], block: int) -> PackedCodes:
    """The codes as the kernel reads them.

    Raises:
        PassRefused: when they do not stand for the weight that the graph has.
    """
    weight = _merged(layer.path, files)
    if not np.allclose(weight.dequantize().T, np.asarray(layer.array(), np.float32), rtol=1e-2, atol=1e-6):
        raise PassRefused(f"{layer.path}: the exporter changed this weight, so the checkpoint's codes do not fit it")
    n, k = weight.codes.shape
    repeats = weight.group_size // block
    scales, zeros = (np.repeat(part, repeats, axis=1) for part in (weight.scales, weight.zero_points))
    codes = weight.codes.reshape(n, k // block, block)
    return BlockCodes(codes, scales, zeros, _width(weight.bits), k).packed()


def _width(bits: int) -> int:
    """The narrowest width of the kernel that holds codes of ``bits``."""
    return next(width for width in (2, 4, 8) if bits <= width)


def _reorder(model: ir.Model, layer: Linear, order: np.ndarray, orders: dict[tuple[str, bytes], ir.Value]) -> None:
    """Let a layer read its inputs in another order."""
    key = (layer.reads, order.tobytes())
    activation = layer.node.inputs[0]
    assert activation is not None
    if key not in orders:
        name = f"{layer.node.name}_order"
        compute: Callable[[], np.ndarray] = partial(np.asarray, order, np.int64)
        indices = add_initializer(model, name, ir.DataType.INT64, order.shape, compute)
        gather = ir.node("Gather", [activation, indices], {"axis": -1}, name=f"{name}/Gather")
        output = gather.outputs[0]
        output.name, output.type, output.shape = f"{name}/output_0", activation.type, activation.shape
        model.graph.insert_before(layer.node, gather)
        orders[key] = output
    layer.node.replace_input_with(0, orders[key])
