"""Rounds of paired timing: their number, their processes, and their description in a protocol."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from olivine.evaluators.latency.core_placement import CoreWatch, least_adjacent
from olivine.evaluators.latency.interleave import Interleaver
from olivine.evaluators.latency.warnings import core_warnings, timing_warnings
from olivine.evaluators.process.procfs import frequency_governor, stolen_s
from olivine.evaluators.process.protocols import InterleavedProcess

_Process = TypeVar("_Process", bound=InterleavedProcess)
#: Rounds below this can't give a 95 % interval that is not just the extremes.
MIN_ROUNDS = 8
#: Times as many rounds as needed that are taken at most, where many do not count.
MOST_TRIES = 3
#: Rounds between looks at the interval's width.
CHECK_EVERY = 4
#: Seconds that a pair of processes is timed before fresh ones take over, and how many pairs there are at most.
PROCESS_SECONDS = 2.5
MAX_PROCESSES = 10
#: Processes are timed at least this many times as long as it takes to load their models.
PER_LOAD = 1.0
ESTIMATOR = (
    "lower-half means of paired log times, 95 % randomisation interval, the luck of processes and what neighbours on a "
    "host do included"
)


@dataclass(frozen=True)
class Budget:
    """The end of a measurement.

    Attributes:
        half_width: it ends when its 95 % intervals are at most this on either side.
        max_seconds: or when measuring has taken this long (not the starts of processes), but not before
            8 rounds that count, or three times as many.
        clock: seconds.
        max_rounds: or after this many rounds that count, or three times as many; None for no such limit.
    """

    half_width: float
    max_seconds: float
    clock: Callable[[], float]
    max_rounds: int | None = None

    def process_count(self, processes: Sequence[InterleavedProcess]) -> int:
        """Number of processes of each model: a new one every few seconds, unless the models take long to load."""
        if len(processes) == 1:
            return 1
        seconds = max(PROCESS_SECONDS, PER_LOAD * sum(process.load_seconds for process in processes))
        return max(1, min(round(self.max_seconds / seconds), MAX_PROCESSES))

    def spent(self, rounds: int, counted: int) -> bool:
        """Tell whether there have been enough rounds, of which so many count."""
        most = self.max_rounds
        return most is not None and (counted >= most or rounds >= MOST_TRIES * most)


@dataclass(frozen=True)
class Pair(Generic[_Process]):
    """A candidate and the reference beside it, which are the same to measure the reference alone.

    Attributes:
        candidate: the model that is measured.
        reference: the model beside it.
        budget: end of the measurement.
        seed: of everything that is left to chance.
        cores: of the machine.
    """

    candidate: _Process
    reference: _Process
    budget: Budget
    seed: int
    cores: CoreWatch


class PairedRounds(ABC, Generic[_Process]):
    """The rounds of one measurement, as they are taken; a subclass takes each.

    Attributes:
        interleaver: of reference and candidate, or of the reference alone.
        budget: its end.
        rng: of everything that is left to chance.
        process: [rounds] number of the pair of processes, from 0.
        core_distance: [rounds] how far the cores lay from each other at the least adjacent moment; nan where unknown.
        ended_by: ``half_width``, ``max_seconds`` or ``max_rounds``.
        stolen_share: share of the machine's time that its host kept meanwhile.
    """

    #: Whether the time of the first warm-up is part of the budget.
    warm_up_counts: ClassVar[bool] = True

    def __init__(self, pair: Pair[_Process]) -> None:
        both = [pair.reference] if pair.candidate is pair.reference else [pair.reference, pair.candidate]
        self.interleaver = Interleaver(both, pair.cores)
        self.budget = pair.budget
        self.rng = np.random.default_rng(pair.seed)
        self.process: list[int] = []
        self.core_distance: list[float] = []
        self.ended_by = ""
        self.stolen_share = 0.0

    @property
    def alone(self) -> bool:
        """True where the reference is measured by itself."""
        return len(self.interleaver.processes) == 1

    @abstractmethod
    def warm_up(self) -> None:
        """Run everything until it is steady, before a round is taken."""

    @abstractmethod
    def reserve(self) -> None:
        """Let fresh processes hold the memory that they will need; its time does not count."""

    @abstractmethod
    def wake(self) -> None:
        """Let fresh processes run once; its time counts."""

    @abstractmethod
    def take(self) -> Iterable[float]:
        """Take a round; returns the distances of the cores in it."""

    @abstractmethod
    def half_width(self) -> float:
        """The widest interval by the rounds that count, in logarithms; on either side."""

    def measure(self) -> None:
        """Take rounds until the budget is spent."""
        stolen, begun = stolen_s(), time.monotonic()
        with self.interleaver.ahead_of_others(self.budget.max_seconds):
            started = self.budget.clock()
            self.warm_up()
            self.ended_by = self._take_all(started if self.warm_up_counts else self.budget.clock())
        machine_s = (time.monotonic() - begun) * (os.cpu_count() or 1)
        self.stolen_share = (stolen_s() - stolen) / max(1e-9, machine_s)

    def _take_all(self, started: float) -> str:
        budget, measured_s = self.budget, 0.0
        processes = budget.process_count(self.interleaver.processes)
        for process in range(processes):
            if process:
                self.interleaver.restart(self.rng)
                self.reserve()
                started = budget.clock()
                self.wake()
            share = (process + 1) / processes
            while self._more(process, share, measured_s + budget.clock() - started):
                self.interleaver.draw_core(self.rng)
                self.core_distance.append(least_adjacent([*self.take(), self.interleaver.core_distance()]))
                self.process.append(process)
                counted = int(self.adjacent().sum())
                if counted >= MIN_ROUNDS and counted % CHECK_EVERY == 0 and self.half_width() <= budget.half_width:
                    return "half_width"
                if budget.spent(len(self.process), counted):
                    return "max_rounds"
            measured_s += budget.clock() - started
        return "max_seconds"

    def _more(self, process: int, share: float, measured_s: float) -> bool:
        """Tell whether this pair of processes has another round to take, by the share of the budget up to its end."""
        needed, rounds = share * MIN_ROUNDS, len(self.process)
        return (
            measured_s < share * self.budget.max_seconds
            or (self.adjacent().sum() < needed and rounds < MOST_TRIES * needed)
            or process not in self.process
        )

    def adjacent(self) -> npt.NDArray[np.bool_]:
        """[rounds] whether the cores lay side by side."""
        return self.interleaver.adjacent(self.core_distance)

    def counted(self) -> npt.NDArray[np.bool_]:
        """[rounds] whether the round counts."""
        return self.interleaver.counted(self.core_distance)

    def counted_processes(self) -> list[int]:
        """Number of the pair of processes of each round that counts."""
        numbers: list[int] = np.array(self.process)[self.counted()].tolist()
        return numbers

    def protocol(self, readings_ms: Sequence[Sequence[float]], reading: str, warmed_up: bool = True) -> dict[str, Any]:
        """Describe the measurement, warnings included.

        Args:
            readings_ms: [models][rounds] times of the rounds that count.
            reading: name of one time, such as ``prefill``.
            warmed_up: whether warm-up ended because readings were steady.
        """
        facts = self.interleaver.core_facts(self.core_distance)
        return {
            "rounds": int(self.counted().sum()),
            "processes": len(set(self.counted_processes())),
            "ended_by": self.ended_by,
            "asked_half_width": self.budget.half_width,
            "estimator": ESTIMATOR,
            "priority": "raised" if self.interleaver.priority_raised else "usual",
            "cautions": [
                *timing_warnings(self.stolen_share, frequency_governor(), warmed_up, readings_ms, reading),
                *core_warnings(facts.get("core_distance", {}), len(self.process)),
            ],
            "stolen_share": round(self.stolen_share, 4),
            **facts,
        }
