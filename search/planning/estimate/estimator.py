"""Estimator: needs of one study, which every kind of model tells in its own way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from olivine.search.planning.machine_speed import MachineRates


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

    def memory_bytes(self) -> float:
        """The most that all processes hold together, without pages of mapped files, which the kernel drops at need."""
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
