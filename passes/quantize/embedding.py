"""The embedding: its own precision (GatherBlockQuantized), and its own weight where the head shares one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from olivine.passes.base import Axis, Choice, GraphPass
from olivine.passes.errors import PassRefused, UsageError, did_you_mean
from olivine.passes.graph import MICROSOFT, add_initializer, drop_unused, replace_node
from olivine.passes.precisions import INTEGER_BITS, is_integer
from olivine.passes.quantize.blocks.blockwise import quantize_blocks
from olivine.passes.quantize.shared_tensor import SharedTensor

BLOCK_SIZE = 32


def find_embedding(model: ir.Model) -> ir.Node:
    """The Gather that looks tokens up.

    Raises:
        PassRefused: when the graph takes embeddings as an input, or looks them up in another way.
    """
    for node in model.graph:
        if node.op_type == "Gather" and "embed_tokens" in (node.name or ""):
            return node
    raise PassRefused("embedding: the graph has no Gather named embed_tokens")


def untie_embedding(model: ir.Model) -> None:
    """Give the embedding a weight of its own where it reads the transposed weight of the head."""
    try:
        gather = find_embedding(model)
    except PassRefused:
        return
    table = gather.inputs[0]
    producer = table.producer() if table is not None else None
    if producer is None or producer.op_type != "Transpose":
        return
    head = producer.inputs[0]
    if head is None or head.const_value is None:
        return
    tensor = head.const_value
    k, n = tensor.shape.numpy()
    own = add_initializer(
        model,
        "model.embed_tokens.weight",
        tensor.dtype,
        (n, k),
        lambda: np.ascontiguousarray(tensor.numpy().T),
    )
    gather.replace_input_with(0, own)
    drop_unused(model)


def head_refusal(embeddings: Iterable[object], heads: Iterable[object]) -> str | None:
    """Say why a shared embedding can't be built with any of these precisions of the head; None where it can."""
    if "shared" not in embeddings or any(head != "fp32" for head in heads):
        return None
    return "'shared' reads the embedding out of the head's codes, and `lm_head: fp32` has none; same, int8 and int4 do"


@dataclass(frozen=True)
class QuantizeEmbedding(GraphPass):
    """Store the embedding as int8 or int4 in blocks of 32 along the hidden size, symmetric round-to-nearest.

    Attributes:
        bits: 4 or 8.
    """

    bits: int = 8

    name: ClassVar[str] = "embedding"
    requires: ClassVar[frozenset[str]] = frozenset({"onnx"})
    adds: ClassVar[frozenset[str]] = frozenset({"quantized"})
    removes: ClassVar[frozenset[str]] = frozenset({"float"})
    libraries: ClassVar[tuple[str, ...]] = ("onnx-ir", "torch")
    axes: ClassVar[tuple[Axis, ...]] = (
        Axis(
            "embedding",
            "choice",
            "float",
            "precision of the embedding table; shared looks tokens up in the codes of the head, where the checkpoint "
            "ties the two or has rotated a tied one",
            ("float", "int8", "int4", "shared"),
            applies=is_integer,
        ),
    )

    def __post_init__(self) -> None:
        """Check the parameter that a request file may bring."""
        if self.bits not in (4, 8):
            raise UsageError(f"embedding: unknown bits '{self.bits}'. {did_you_mean(self.bits, (4, 8))}")

    @classmethod
    def from_choice(cls, choice: Choice) -> QuantizeEmbedding | None:
        """The pass for ``embedding: int8`` or ``int4``."""
        bits = INTEGER_BITS.get(str(choice.get("embedding", "float")))
        return None if bits is None else cls(bits)

    def rewrite(self, model: ir.Model) -> None:
        """Replace the Gather by GatherBlockQuantized over uint8 codes."""
        untie_embedding(model)
        gather = find_embedding(model)
        table = gather.inputs[0]
        if table is None or table.const_value is None:
            raise PassRefused("embedding: the table is not a constant")
        tensor = table.const_value
        rows, hidden = tensor.shape.numpy()
        blocks = -(-hidden // BLOCK_SIZE)
        if hidden % BLOCK_SIZE:
            raise PassRefused(f"embedding: the hidden size {hidden} is not a multiple of {BLOCK_SIZE}")

        quantized = SharedTensor(
            lambda: quantize_blocks(tensor.numpy().T, self.bits, BLOCK_SIZE, "rtn", True).packed(), 2
        )

        def codes() -> np.ndarray:
            return quantized.take().codes.reshape(rows, hidden * self.bits // 8)

        def scales() -> np.ndarray:
            return quantized.take().scales.astype(tensor.dtype.numpy())  # the kernel answers in the type of its scales

        stem = f"{table.name}_Q{self.bits}"
        inputs = [
            add_initializer(model, stem, ir.DataType.UINT8, (rows, hidden * self.bits // 8), codes),
            gather.inputs[1],
            add_initializer(model, f"{stem}_scales", tensor.dtype, (rows, blocks), scales),
        ]
        attributes = {"bits": self.bits, "block_size": BLOCK_SIZE, "gather_axis": 0, "quantize_axis": 1}
        name = f"{gather.name}_Q{self.bits}"
        replace_node(model, gather, ir.node("GatherBlockQuantized", inputs, attributes, domain=MICROSOFT, name=name))
        model.opset_imports.setdefault(MICROSOFT, 1)
        drop_unused(model)
