"""Merged layers: projections that the exporter makes one MatMul of, so that results of one graph serve another.

At another fusion level the same weights stand in other MatMuls, side by side along their output features. What a layer
loses, and the codes that it is stored in, belong to output features, so both are learned once, in the graph of the
usual fusion level, and cut or put together for the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: Merged layer -> the layers that the exporter merges in it, in order.
MERGED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


@dataclass(frozen=True)
class Piece:
    """Output features ``start`` to ``stop`` of the layer ``path``."""

    path: str
    start: int
    stop: int


def pieces(path: str, own: Mapping[str, int], other: Mapping[str, int]) -> tuple[Piece, ...] | None:
    """The output features of a layer as parts of another graph of the same model, in order; None if not there.

    Args:
        path: of the layer, as in :attr:`olivine.passes.graph.Linear.path`.
        own: path -> output features of every linear layer of its graph.
        other: the same of the other graph.
    """
    if other.get(path) == own[path]:
        return (Piece(path, 0, own[path]),)
    role = path.rsplit("/", 1)[-1]
    prefix = path.removesuffix(role)
    parts = [prefix + part for part in MERGED.get(role, ())]
    if parts and sum(other.get(part, 0) for part in parts) == own[path]:
        return tuple(Piece(part, 0, other[part]) for part in parts if part in other)
    for whole, roles in MERGED.items():
        sizes = {part: own.get(prefix + part, 0) for part in roles}
        if role in roles and other.get(prefix + whole) == sum(sizes.values()):
            start = sum(sizes[part] for part in roles[: roles.index(role)])
            return (Piece(prefix + whole, start, start + own[path]),)
    return None
