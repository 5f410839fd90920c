"""Stage: one measurement of a candidate beside the base, its place in a trial and the workers that do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.quality.text_quality import WindowSums

#: The part of the study's text or samples: the search measures on one, confirmation on the other.
Split = Literal["select", "confirm"]
#: The parts of a trial in their order; a worker may do only some of them.
Role = Literal["build", "quality", "latency"]
ROLES: tuple[Role, ...] = ("build", "quality", "latency")

#: Asked while a candidate is scored: the reason to stop, in words.
StopRule = Callable[[WindowSums], str | None]


class Evaluator(Protocol):
    """Measures a loaded candidate beside the loaded base."""

    def evaluate(self, candidate: ModelProcess, reference: ModelProcess, /) -> list[Measurement]:
        """Measure ``candidate``; it may be ``reference``.

        Raises:
            OlivineError: when the candidate does not run, or its outputs are no numbers.
        """
        ...


@dataclass(frozen=True)
class Stage:
    """One measurement of a candidate beside the base; stages run cheap first.

    Attributes:
        name: a phase of the record.
        role: of the workers that do it.
        evaluator: measures.
        rung: name of the step, in the record of a candidate that breaks a constraint by the end of the stage and is
            dropped there; empty where no candidate is.
        timed: nothing else may run meanwhile.
        until: makes an evaluator that asks a stop rule while it runs; None for one that always runs to its end.
        again: makes an evaluator for the n-th repetition, with other random choices than those before.
    """

    name: str
    role: Role
    evaluator: Evaluator
    rung: str = ""
    timed: bool = False
    until: Callable[[StopRule], Evaluator] | None = None
    again: Callable[[int], Evaluator] | None = None
