"""Constant weights of a graph in blocks of integers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx

from olivine.passes.base import Axis, Choice, GraphFacts, GraphFilePass
from olivine.passes.errors import PassRefused
from olivine.passes.graph import linears, load_graph, save_graph
from olivine.passes.graphs.quantize import BITS, integer_activations
from olivine.passes.graphs.source import save_named
from olivine.passes.quantize.blocks.block_format import BlockFormat
from olivine.passes.quantize.blocks.layer_codes import layer_codes
from olivine.passes.quantize.matmul_nbits import Stored, store_in_blocks

#: The kernel's arithmetic for weights in blocks: int8, the fast one.
ACCURACY_LEVEL = 4


def _weight_only(choice: Choice) -> bool:
    return choice.get("precision") in BITS and not integer_activations(choice)


@dataclass(frozen=True)
class GraphWeightOnlyQuantize(GraphFilePass):
    """Constant weights of MatMuls in blocks of integers (MatMulNBits); activations stay float.

    Attributes:
        bits: of a weight.
        algorithm: rule that chooses the codes of a block.
        block_size: weights that share a scale.
    """

    bits: int
    algorithm: str
    block_size: int

    name: ClassVar[str] = "weight_only"
    adds: ClassVar[frozenset[str]] = frozenset({"quantized"})
    axes: ClassVar[tuple[Axis, ...]] = (
        Axis(
            "algorithm",
            "choice",
            "rtn",
            "method that chooses weights in blocks",
            ("rtn", "k_quant"),
            applies=_weight_only,
        ),
        Axis("block_size", "choice", 32, "weights that share a scale", (16, 32, 64, 128, 256), applies=_weight_only),
    )

    @classmethod
    def from_choice(cls, choice: Choice) -> GraphWeightOnlyQuantize | None:
        """A step for integer weights below float activations."""
        if not _weight_only(choice):
            return None
        return cls(BITS[str(choice["precision"])], str(choice["algorithm"]), int(choice["block_size"]))

    def apply(self, graph: Path, to: Path, facts: GraphFacts) -> None:
        """Write the quantized graph to the file ``to``.

        Raises:
            PassRefused: when no MatMul has a constant weight.
        """
        model = load_graph(graph)
        form = BlockFormat(self.bits, self.algorithm, self.block_size, True)
        layers = [layer for layer in linears(model) if layer.weight.is_initializer()]
        if not layers:
            raise PassRefused("weight_only: the graph has no MatMul with a constant weight")
        codes = zip(layers, layer_codes(layers, form), strict=True)
        store_in_blocks(model, [Stored(layer, form, of) for layer, of in codes], ACCURACY_LEVEL)
        save_graph(model, to)
        save_named(onnx.load(to), to)
