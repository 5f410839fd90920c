"""Estimator: needs of one study, which every kind of model tells in its own way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from olivine.search.planning.machine_speed import MachineRates
from olivine.search.report.formatting import value_text

#: Parts of the memory of a study.
BASE, BESIDE = "the float base that stays loaded", "what is loaded beside it"
BUILDING, OTHER = "a build", "the rest"


@dataclass(frozen=True)
class Durations:
    """Seconds of the parts of a study.

    Attributes:
        base: exporting all float graphs, and measuring the base.
        learning: what candidates learn from text, all together.
        trial: one candidate, on average.
        member: confirming one member of the front.
    """

    base: float
    learning: float
    trial: float
    member: float


class Estimator(Protocol):
    """Needs of one study; every workload has its own.

    Attributes:
        float_bytes: size of the float base.
        candidate_bytes: sizes of typical candidates.
    """

    @property
    def float_bytes(self) -> float: ...  # noqa: D102 - above

    @property
    def candidate_bytes(self) -> Sequence[float]: ...  # noqa: D102 - above

    def memory_parts(self) -> Mapping[str, float]:
        """The most that all processes hold together: part -> bytes.

        Pages of mapped files, which the kernel drops at need, are not counted.
        """
        ...

    def disk_bytes(self, trials: int) -> float:
        """Bytes in the cache and in the study folder after so many candidates."""
        ...

    def durations(self, trials: int, rates: MachineRates) -> Durations:
        """Seconds of the parts of a study of so many candidates."""
        ...

    def assumptions(self, rates: MachineRates) -> tuple[str, ...]:
        """Sentences on what the estimates rest on."""
        ...


def memory_bytes(estimator: Estimator) -> float:
    """Bytes of all parts of the memory of a study."""
    return sum(estimator.memory_parts().values())


def memory_text(parts: Mapping[str, float]) -> str:
    """The parts with their bytes, the largest first."""
    ordered = sorted(parts.items(), key=lambda part: -part[1])
    return ", ".join(f"{value_text('model_bytes', count)} for {name}" for name, count in ordered)
