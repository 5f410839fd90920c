"""Turns: one process runs, the others stand still; and how a round of paired timing visits each."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from olivine.evaluators.latency.core_distance import CoreDistance
from olivine.evaluators.latency.core_placement import Placement
from olivine.evaluators.latency.speedup import lower_half_mean
from olivine.evaluators.process.failure import ModelProcessFailed
from olivine.evaluators.process.protocols import InterleavedProcess
from olivine.evaluators.process.scheduling import own_cores, prompt_thread
from olivine.evaluators.stats import Floats

_Value = TypeVar("_Value")
_Process = TypeVar("_Process", bound=InterleavedProcess)
#: Rounds below this can't give a 95 % interval that is not just the extremes.
MIN_ROUNDS = 8
#: Rounds below this give no 95 % interval at all.
LEAST_ROUNDS = 6
#: Milliseconds of a visit's first steps, which don't count, and of those that do, for the faster process.
COLD_MS, COUNTED_MS = 10.0, 15.0
MIN_COUNTED = 2
#: Time that a round spends in decode, relative to its prefills: pairs of prefills are the scarce ones.
DECODE_SHARE = 0.5
#: The longest that cores may rest, as a share of a measurement's time.
RESTING_SHARE = 0.3
#: Cores -> the least distance that this process has seen between them.
_NEAREST: dict[tuple[int, ...], float] = {}


@dataclass
class Interleaver(Generic[_Process]):
    """Processes of which one runs at a time.

    Attributes:
        processes: the reference first.
        hurried: whether the system let all processes go before other programs.
        placement: of the cores, while processes of several threads are timed; None where it makes no difference.
    """

    processes: Sequence[_Process]
    hurried: bool = False
    placement: Placement | None = None
    _cores: Sequence[int] = field(default_factory=own_cores)

    @property
    def one_core(self) -> bool:
        """Whether both processes of a round run on one core: each needs one, and there are several."""
        return len(self._cores) > 1 and all(process.threads == 1 for process in self.processes)

    @contextmanager
    def ahead_of_others(self, max_seconds: float) -> Iterator[None]:
        """Meanwhile the processes go before other programs, where the system lets us; afterwards they are as before.

        Args:
            max_seconds: that will be measured.
        """
        self._hurry()
        try:
            with prompt_thread(), self._watched_cores(RESTING_SHARE * max_seconds):
                yield
        finally:
            for process in self.processes:
                process.resume()
                if process.usable:
                    with suppress(ModelProcessFailed):  # who asks it next is told; what was measured is not lost
                        process.reserve(0)
                process.restore_priority()
                if self.one_core:
                    process.pin(self._cores)

    @contextmanager
    def _watched_cores(self, allowance_s: float) -> Iterator[None]:
        """Know how far the cores lie from each other meanwhile, where processes have threads on several."""
        started = None if self.one_core else CoreDistance.start(self._cores)
        if started is None:
            yield
            return
        known = _NEAREST.get(tuple(self._cores), math.inf)
        with closing(started):
            self.placement = Placement(started.measure, allowance_s, nearest=known)
            try:
                yield
            finally:
                _NEAREST[tuple(self._cores)] = self.placement.nearest

    def settle(self) -> tuple[float, float]:
        """While all processes stand still, let the cores come to lie side by side; their distance before and after."""
        if self.placement is None:
            return math.nan, math.nan
        self._pause()
        return self.placement.settle()

    def look(self) -> float:
        """While all processes stand still, how far the cores lie from each other; nan where unknown."""
        if self.placement is None:
            return math.nan
        self._pause()
        return self.placement.look()

    def near(self, core_distance: Sequence[float]) -> npt.NDArray[np.bool_]:
        """Which of the rounds with these distances were taken while the cores lay side by side."""
        if self.placement is None:
            return np.ones(len(core_distance), dtype=bool)
        return self.placement.near(core_distance)

    def kept(self, core_distance: Sequence[float]) -> int:
        """How many of the rounds with these distances were taken while the cores lay side by side."""
        return int(self.near(core_distance).sum())

    def counted(self, core_distance: Sequence[float]) -> npt.NDArray[np.bool_]:
        """Which of the rounds count: those with the cores side by side; all where these are too few for an interval."""
        near = self.near(core_distance)
        return near if near.sum() >= LEAST_ROUNDS else np.ones_like(near)

    def core_facts(self, core_distance: Sequence[float]) -> dict[str, Any]:
        """What a protocol says of the cores; nothing where it makes no difference how they lie."""
        if self.placement is None:
            return {} if self.one_core or len(self._cores) < 2 else {"core_distance": {"watched": False}}
        near, counted, nearest = self.near(core_distance), self.counted(core_distance), self.placement.nearest
        return {
            "core_distance": {
                "watched": True,
                "nearest": round(nearest, 2) if math.isfinite(nearest) else None,
                "rounds_moved": int((~near).sum()),
                "rounds_unknown": int(np.isnan(core_distance).sum()),
                "moved_counted": bool((counted & ~near).any()),
                "rested_s": round(self.placement.rested_s, 3),
            }
        }

    def _pause(self) -> None:
        for process in self.processes:
            process.pause()

    def restart(self, rng: np.random.Generator) -> None:
        """Every model goes on in a fresh process; libraries load at the same time, models in random order."""
        for process in self.processes:
            process.restart()
        for index in rng.permutation(len(self.processes)):
            self.processes[index].reload()
        self._hurry()

    def change_core(self, rng: np.random.Generator) -> None:
        """Processes of one thread go on together, on a core drawn at random."""
        if self.one_core:
            core = int(rng.choice(self._cores))
            for process in self.processes:
                process.pin({core})

    def reserve(self, tokens: int) -> bool:
        """Every process holds memory for prompts of so many tokens; whether each holds all of it."""
        return all([self.pause_others(index).reserve(tokens) for index in range(len(self.processes))])

    def _hurry(self) -> None:
        self.hurried = all([process.raise_priority() for process in self.processes])

    def pause_others(self, index: int) -> _Process:
        """Let all processes but one stand still; returns that one, by its index."""
        for other, process in enumerate(self.processes):
            if other != index:
                process.pause()
        return self.processes[index]


@dataclass(frozen=True)
class Visits:
    """How a round visits a process for decode.

    Attributes:
        count: visits after each prefill.
        cold: steps at a visit's start that do not count.
        counted: steps that do.
    """

    count: int
    cold: int
    counted: int

    @property
    def steps(self) -> int:
        """Steps of one visit."""
        return self.cold + self.counted

    @classmethod
    def fit(cls, prefill_ms: float, step_ms: Sequence[float], room: int) -> Visits:
        """Visits for models of these times, in which none generates more than ``room`` tokens after a prefill."""
        fastest = min(step_ms)
        cold = min(math.ceil(COLD_MS / fastest), room // 3)
        counted = min(max(MIN_COUNTED, math.ceil(COUNTED_MS / fastest)), room - cold)
        fitting = DECODE_SHARE * prefill_ms / ((cold + counted) * sum(step_ms))
        return cls(max(1, min(round(fitting), room // (cold + counted))), cold, counted)


@dataclass
class Readings:
    """Every sample of one process, in milliseconds.

    Attributes:
        visits: how a round visits the process.
        ttft_ms: [rounds].
        step_ms: [rounds * visits][steps], cold steps included.
        foreign_cores: [rounds] cores that other programs kept busy during prefill.
        process: [rounds] number of the process, from 0.
        core_distance: [rounds] how far the cores lay from each other at the oddest moment; nan where unknown.
    """

    visits: Visits
    ttft_ms: list[float] = field(default_factory=list)
    step_ms: list[list[float]] = field(default_factory=list)
    foreign_cores: list[float] = field(default_factory=list)
    process: list[int] = field(default_factory=list)
    core_distance: list[float] = field(default_factory=list)

    def of_rounds(self, kept: npt.NDArray[np.bool_]) -> Readings:
        """Those of the rounds for which [rounds] ``kept`` holds."""

        def some(values: Sequence[_Value], times: int = 1) -> list[_Value]:
            return list(itertools.compress(values, np.repeat(kept, times)))

        return Readings(
            self.visits,
            some(self.ttft_ms),
            some(self.step_ms, self.visits.count),
            some(self.foreign_cores),
            some(self.process),
            some(self.core_distance),
        )

    def tpot_ms(self) -> Floats:
        """[rounds * visits] mean of the faster half of the steps that count."""
        return np.array([float(lower_half_mean(np.array(steps[self.visits.cold :]))) for steps in self.step_ms])

    def e2e_ms(self, new_tokens: int) -> Floats:
        """[rounds] time to ``new_tokens`` tokens, by a round's prefill and its visits."""
        per_round = self.tpot_ms().reshape(-1, self.visits.count).mean(axis=1)
        e2e: Floats = np.array(self.ttft_ms) + (new_tokens - 1) * per_round
        return e2e
