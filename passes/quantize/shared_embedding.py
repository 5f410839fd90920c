"""One table for the embedding and the head: tokens are looked up in the codes that the head is stored in.

A checkpoint that ties the two has one matrix. The head of a rotated one (``transforms/rotate.py``) is that matrix times
another, ``W = E G`` with E [N, K] the embedding and G [K, K] invertible: the final norm's weight is folded in. So with
D what the head's codes stand for, the rows of ``D B`` are those of the embedding. B [K, K] minimizes ``|D B - E|^2``,
which makes good what it can of the rounding; it is left out where the identity is as close.

A graph then holds the largest of its matrices once: 28 of 175 MB less of the demo model at 8 bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from olivine.passes.base import Choice, GraphPass
from olivine.passes.errors import PassRefused
from olivine.passes.graph import HEAD, MICROSOFT, add_initializer, drop_unused, replace_node
from olivine.passes.quantize.blocks.packing import PackedCodes, unpacked
from olivine.passes.quantize.embedding import find_embedding

#: Largest share of the embedding's power around its mean that may be lost: int4 in blocks of 256 loses .02, another
#: matrix about 1. The mean tells no token from another, and a matrix has as good a one of any other.
MOST_LOST = 0.1
#: The identity is as close as a fit where it loses no more than this times what the fit loses.
_AS_CLOSE = 1.25
#: Most rows that B is fitted to, for each of its columns: more change it less than the rounding does.
_ROWS_PER_COLUMN = 8
#: With fewer, anything fits.
_FEWEST_ROWS_PER_COLUMN = 2
#: Rows that are in memory as floats at a time.
_BLOCK_ROWS = 2048


@dataclass(frozen=True)
class ShareEmbedding(GraphPass):
    """Look tokens up in the codes of the head, then multiply by a matrix where the checkpoint does not tie the two."""

    name: ClassVar[str] = "share_embedding"
    version: ClassVar[int] = 2
    requires: ClassVar[frozenset[str]] = frozenset({"onnx", "quantized"})
    libraries: ClassVar[tuple[str, ...]] = ("onnx-ir", "numpy")

    @classmethod
    def from_choice(cls, choice: Choice) -> ShareEmbedding | None:
        """The pass for ``embedding: shared``."""
        return cls() if choice.get("embedding") == "shared" else None

    def rewrite(self, model: ir.Model) -> None:
        """Replace the Gather by GatherBlockQuantized over the head's codes.

        Raises:
            PassRefused: when the head is not stored in blocks, or its matrix is not that of the embedding.
        """
        head, gather = _head_in_blocks(model), find_embedding(model)
        table = gather.inputs[0]
        if table is None or table.const_value is None:
            raise PassRefused("embedding: the table is not a constant")
        bits, block_size = head.attributes["bits"].as_int(), head.attributes["block_size"].as_int()
        codes = _computed(head)
        matrix = fitted(codes, bits, table.const_value.numpy())

        rows, blocks = codes.scales.shape
        shape = np.array([rows, blocks * block_size * bits // 8], np.int64)
        as_rows = ir.node(
            "Reshape", [head.inputs[1], _constant(model, "model.embed_tokens.shape", shape)], name=f"{gather.name}_rows"
        )
        looked_up = ir.node(
            "GatherBlockQuantized",
            [as_rows.outputs[0], gather.inputs[1], *head.inputs[2:4]],
            {"bits": bits, "block_size": block_size, "gather_axis": 0, "quantize_axis": 1},
            domain=MICROSOFT,
            name=f"{gather.name}_shared",
        )
        before = [as_rows, looked_up]
        if matrix is not None:
            factor = _constant(model, "model.embed_tokens.of_head", matrix.astype(table.const_value.dtype.numpy()))
            before.append(ir.node("MatMul", [looked_up.outputs[0], factor], name=f"{gather.name}_of_head"))
        for node in before[:-1]:
            model.graph.insert_before(gather, node)
        replace_node(model, gather, before[-1])
        drop_unused(model)


def fitted(codes: PackedCodes, bits: int, table: np.ndarray) -> np.ndarray | None:
    """The matrix B that makes rows of the head rows of the embedding.

    Args:
        codes: of the head, whose rows are output features.
        bits: width of a code.
        table: float [N, K], the embedding.

    Returns:
        float32 [width, K], with a row of zeros for each column of the codes that pads the last block; None where the
        rows are the embedding's as they are and nothing is padded.

    Raises:
        PassRefused: when no matrix does.
    """
    sample, columns = _Sample(codes, bits, table), table.shape[1]
    gram, cross = np.zeros((2, columns, columns))
    mean, power, as_it_is = np.zeros(columns), 0.0, 0.0
    for head, wanted in sample.blocks():
        gram += head.T @ head
        cross += head.T @ wanted
        mean += wanted.sum(axis=0, dtype=np.float64) / len(sample)
        power += _power(wanted)
        as_it_is += _power(head - wanted)
    power -= len(sample) * _power(mean)
    matrix: np.ndarray | None = None
    lost = as_it_is
    if len(sample) >= _FEWEST_ROWS_PER_COLUMN * columns:
        fit = _least_squares(gram, cross)
        left = sum(_power(head @ fit - wanted) for head, wanted in sample.blocks())
        spent = len(sample) / (len(sample) - columns)  # a fit takes its share of any error away
        if _AS_CLOSE * left * spent < as_it_is:
            matrix, lost = fit, left
    if lost > MOST_LOST * power:
        raise PassRefused(
            f"embedding: 'shared' reads the embedding out of the head, and here the two are different matrices: "
            f"{lost / max(power, lost):.0%} of it would be lost. Use int8 or int4."
        )
    padded = codes.scales.shape[1] * (codes.codes.shape[2] * 8 // bits) - columns
    if matrix is None:
        if not padded:
            return None
        matrix = np.eye(columns, dtype=np.float32)
    return np.pad(matrix, ((0, padded), (0, 0)))


class _Sample:
    """Rows of the head and of the embedding, evenly spread over the tokens; a block of them in memory at a time."""

    def __init__(self, codes: PackedCodes, bits: int, table: np.ndarray) -> None:
        self._codes, self._bits, self._table = codes, bits, table
        rows, columns = table.shape
        self._tokens = range(0, rows, max(1, -(-rows // (_ROWS_PER_COLUMN * columns))))

    def __len__(self) -> int:
        return len(self._tokens)

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Float32 [rows, K] of both, the columns that pad the codes left out."""
        for start in range(0, len(self), _BLOCK_ROWS):
            tokens = self._tokens[start : start + _BLOCK_ROWS]
            rows = slice(tokens.start, tokens.stop, tokens.step)
            stored = unpacked(self._codes, self._bits, rows)
            yield stored[:, : self._table.shape[1]], self._table[rows].astype(np.float32)


def _least_squares(gram: np.ndarray, cross: np.ndarray) -> np.ndarray:
    """The matrix B with the least ``|H B - E|^2``, float32 [K, K]; for H of any rank.

    Args:
        gram: float64 [K, K], H'H; changed.
        cross: float64 [K, K], H'E.
    """
    gram[np.diag_indices_from(gram)] += 1e-9 * np.trace(gram) / len(gram) + np.finfo(np.float64).tiny
    return np.linalg.solve(gram, cross).astype(np.float32)


def _power(array: np.ndarray) -> float:
    return float(np.square(array, dtype=np.float64).sum())


def _head_in_blocks(model: ir.Model) -> ir.Node:
    """The head, stored in blocks."""
    for node in model.graph:
        if node.op_type == "MatMulNBits" and HEAD in (node.name or ""):
            return node
    raise PassRefused(
        "embedding: 'shared' reads the embedding out of the head, which is not stored in blocks here; "
        "give `lm_head` int8 or int4, or the embedding a precision of its own"
    )


def _computed(head: ir.Node) -> PackedCodes:
    """The head's codes; the graph keeps them, so that they are not computed again when they are written."""
    return PackedCodes(_kept(head.inputs[1]), _kept(head.inputs[2]), _kept(head.inputs[3]) if head.inputs[3:] else None)


def _kept(value: ir.Value | None) -> np.ndarray:
    if value is None or value.const_value is None:
        raise PassRefused("embedding: the head's codes are not constants")
    array: np.ndarray = value.const_value.numpy()
    value.const_value = ir.tensor(array, dtype=value.const_value.dtype, name=value.name)
    return array


def _constant(model: ir.Model, name: str, array: np.ndarray) -> ir.Value:
    return add_initializer(model, name, ir.DataType.from_numpy(array.dtype), array.shape, lambda: array)
