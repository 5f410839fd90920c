"""Session options of a graph, written beside it so that what was measured is what is deployed."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

from olivine.passes.artifact import link_or_copy
from olivine.passes.base import Axis, Choice, GraphFacts, GraphFilePass
from olivine.passes.cpu import available_cores

SESSION = "session.json"


@cache
def _cores() -> int:
    """Cores of this process as they were first: base and candidates of a study have the same threads."""
    return available_cores()


@dataclass(frozen=True)
class GraphSessionOptions(GraphFilePass):
    """Threads of the session that runs the graph.

    Attributes:
        threads: intra-op threads.
    """

    threads: int

    name: ClassVar[str] = "session_options"
    changes_graph: ClassVar[bool] = False
    axes: ClassVar[tuple[Axis, ...]] = (
        Axis(
            "threads",
            "int",
            0,
            "intra-op threads of base and candidates; 0 takes all cores that the process may use",
            bounds=(0, 1024),
            base_inherits=True,
        ),
    )

    @classmethod
    def from_choice(cls, choice: Choice) -> GraphSessionOptions:
        """Always a step; ``threads: 0`` becomes the number of cores, so that a recipe says what it ran with."""
        return cls(int(choice["threads"]) or _cores())

    def apply(self, graph: Path, to: Path, facts: GraphFacts) -> None:
        """Write ``session.json`` beside the graph, which is linked."""
        link_or_copy(graph, to)
        for weights in graph.parent.glob(f"{graph.name}.*"):
            shutil.copyfile(weights, to.with_name(weights.name))  # onnx refuses to read weights with a second link
        to.with_name(SESSION).write_text(json.dumps({"intra_op_num_threads": self.threads}), encoding="utf-8")
