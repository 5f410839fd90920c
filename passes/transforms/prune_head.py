"""The head on the last position only: in prefill, the one whose logits choose the next token.

``hidden states -> Gather(-1) -> head -> logits [batch, 1, vocabulary]``: what the model builder's ``prune_lm_head``
computes, put into a finished graph. Weights and the other nodes stay as they are, so that the graph with and the one
without the Gather are twins over the same weights: one is deployed and timed, the other is scored, which takes the
logits of every position.

A batch of prompts of different lengths needs the unpruned graph: ONNX Runtime GenAI pads on the right, and the last
position of a shorter prompt is padding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from olivine.passes.artifact import ModelArtifact
from olivine.passes.base import Axis, Choice, WiringPass
from olivine.passes.errors import PassRefused
from olivine.passes.graph import add_initializer, save_wiring
from olivine.passes.store.atomic_files import staging_folder
from olivine.passes.store.cache import cache_root, scratch_folder

_GATHER = "/lm_head/prune/Gather"
#: Operators that may multiply with the head's weight.
_HEADS = {"MatMul", "MatMulNBits", "MatMulIntegerToFloat"}
_POSITIONS = 1  # the axis of the logits


@dataclass(frozen=True)
class PruneHead(WiringPass):
    """Compute the logits of the last position only."""

    name: ClassVar[str] = "prune_head"
    requires: ClassVar[frozenset[str]] = frozenset({"onnx"})
    axes: ClassVar[tuple[Axis, ...]] = (
        Axis(
            "prune_head",
            "bool",
            False,
            "compute only the last position's logits in prefill; quality is scored without it",
            base_inherits=True,
            base_value=True,
            newer_default=True,
        ),
    )

    @classmethod
    def from_choice(cls, choice: Choice) -> PruneHead | None:
        """The pass for ``prune_head: true``."""
        return cls() if choice.get("prune_head", False) else None

    def rewire(self, model: ir.Model) -> None:
        """Put a Gather of the last position before the head.

        Raises:
            PassRefused: when the graph is pruned already, or has no head that this pass knows.
        """
        logits = _logits(model)
        if logits.shape is None or len(logits.shape) != 3:
            raise PassRefused(f"{self.name}: the graph gives no logits [batch, positions, vocabulary]")
        if _is_pruned(logits):
            raise PassRefused(f"{self.name}: the graph computes the logits of the last position only already")
        head = _head(logits)
        hidden = head.inputs[0]
        if hidden is None:
            raise PassRefused(f"{self.name}: the head reads no hidden states")
        last = add_initializer(model, f"{_GATHER}/index", ir.DataType.INT64, (1,), lambda: np.array([-1], np.int64))
        gather = ir.node("Gather", [hidden, last], {"axis": _POSITIONS}, name=_GATHER)
        (gathered,) = gather.outputs
        gathered.name, gathered.type = f"{_GATHER}/output_0", hidden.type
        if hidden.shape is not None:
            gathered.shape = ir.Shape([hidden.shape[0], 1, *list(hidden.shape)[2:]])
        model.graph.insert_before(head, gather)
        head.replace_input_with(0, gathered)
        _set_positions(head, 1)


def unprune(model: ir.Model) -> None:
    """Take the pruning of a head away: that of :class:`PruneHead`, or of the model builder.

    Raises:
        PassRefused: when the head reads no Gather of the last position.
    """
    head = _head(_logits(model))
    value = head.inputs[0]
    producer = None if value is None else value.producer()
    nodes = [producer]
    if producer is not None and producer.op_type == "Unsqueeze" and producer.inputs[0] is not None:
        nodes.append(producer.inputs[0].producer())
    gather = nodes[-1]
    if gather is None or gather.op_type != "Gather" or not _takes_last(gather):
        raise PassRefused("the graph computes the logits of the last position only, in a way that is not known here")
    hidden, index = gather.inputs
    head.replace_input_with(0, hidden)
    for node in nodes:
        if node is not None:
            model.graph.remove(node, safe=True)
    if index is not None and index.name is not None and not index.uses():
        model.graph.initializers.pop(index.name, None)
    tokens = next(value for value in model.graph.inputs if value.name == "input_ids")
    _set_positions(head, "sequence_length" if tokens.shape is None else tokens.shape[-1])


def is_pruned(folder: Path) -> bool:
    """True when the ONNX Runtime GenAI model in ``folder`` gives logits of the last position only."""
    return _is_pruned(_logits(ir.load(_graph(folder))))


def pruning_refusal(folder: Path) -> str:
    """The reason why the head of the ONNX Runtime GenAI model in ``folder`` can't be pruned; empty where it can."""
    try:
        PruneHead().rewire(ir.load(_graph(folder)))
    except PassRefused as refusal:
        return str(refusal)
    return ""


@contextmanager
def unpruned(folder: Path) -> Iterator[Path]:
    """The model in ``folder`` as one that gives logits of every position.

    Yields:
        The folder itself where it does; else a twin over the same weights, that is gone afterwards.

    Raises:
        PassRefused: when it is pruned in a way that is not known here.
    """
    graph = _graph(folder)
    model = ir.load(graph)
    if not _is_pruned(_logits(model)):
        yield folder
        return
    unprune(model)
    with _beside(folder.resolve()) as aside:
        twin = aside / folder.resolve().name
        save_wiring(model, folder, graph.name, twin)
        yield twin


def _beside(folder: Path) -> AbstractContextManager[Path]:
    """A scratch folder on the disk of ``folder``, for hard links, as far as there is a place to write to."""
    root, parent = cache_root(), folder.parent
    elsewhere = not root.exists() or root.stat().st_dev != folder.stat().st_dev
    return (
        staging_folder(parent, "unpruned") if elsewhere and os.access(parent, os.W_OK) else scratch_folder("unpruned")
    )


def _graph(folder: Path) -> Path:
    return ModelArtifact(folder, "", frozenset()).onnx_path()


def _logits(model: ir.Model) -> ir.Value:
    for value in model.graph.outputs:
        if value.name == "logits":
            return value
    raise PassRefused("the graph has no output named logits")


def _is_pruned(logits: ir.Value) -> bool:
    return logits.shape is not None and len(logits.shape) == 3 and logits.shape[_POSITIONS] == 1


def _head(logits: ir.Value) -> ir.Node:
    """The product with the head's weight, behind a bias, a scale, a mask, a soft cap or a cast.

    Raises:
        PassRefused: when something else computes the logits.
    """
    node = logits.producer()
    while node is not None and node.op_type not in _HEADS:
        producers = {value.producer() for value in node.inputs if value is not None}
        computed = [p for p in producers if p is not None and p.op_type != "Constant"]
        node = computed[0] if len(computed) == 1 else None
    if node is None:
        raise PassRefused(f"no head is found behind the logits: none of {', '.join(sorted(_HEADS))}")
    return node


def _takes_last(gather: ir.Node) -> bool:
    axis, index = gather.attributes.get("axis"), gather.inputs[1]
    constant = None if index is None else ir.convenience.get_const_tensor(index)
    if axis is None or axis.as_int() != _POSITIONS or constant is None:
        return False
    return bool(constant.numpy().reshape(-1).tolist() == [-1])


def _set_positions(head: ir.Node, positions: int | ir.SymbolicDim | str) -> None:
    """Say in the shapes from the head to the logits how many positions there are."""
    values = list(head.outputs)
    while values:
        value = values.pop()
        if value.shape is not None and len(value.shape) == 3:
            value.shape = ir.Shape([value.shape[0], positions, value.shape[2]])
        values += [output for use in value.uses() for output in use.node.outputs]
