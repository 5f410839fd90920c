"""Interleaver: of several timed models one runs at a time, and the others stand still."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from olivine.evaluators.latency.core_placement import CoreWatch, Placement
from olivine.evaluators.process.failure import ModelProcessFailed
from olivine.evaluators.process.protocols import InterleavedProcess
from olivine.evaluators.process.scheduling import prompt_thread

_Process = TypeVar("_Process", bound=InterleavedProcess)
#: Rounds below this give no 95 % interval at all.
LEAST_ROUNDS = 6
#: The longest that cores may rest, as a share of a measurement's time.
RESTING_SHARE = 0.3


class Interleaver(Generic[_Process]):
    """Processes of which one runs at a time.

    Attributes:
        processes: the reference first.
        priority_raised: whether the system let all processes go before other programs.
        placement: of the cores, while models of several threads are timed; None where it makes no difference.
    """

    def __init__(self, processes: Sequence[_Process], core_watch: CoreWatch) -> None:
        self.processes = processes
        self.priority_raised = False
        self.placement: Placement | None = None
        self._core_watch = core_watch
        self._cores = core_watch.cores()

    @property
    def one_core(self) -> bool:
        """True where the models of a round run on one core: each needs one, and there are several."""
        return len(self._cores) > 1 and all(process.threads == 1 for process in self.processes)

    @contextmanager
    def ahead_of_others(self, max_seconds: float) -> Iterator[None]:
        """Meanwhile the processes go before other programs, where the system allows it; afterwards they are as before.

        Args:
            max_seconds: that will be measured.
        """
        self._raise_priority()
        try:
            with prompt_thread(), self._watched_cores(RESTING_SHARE * max_seconds):
                yield
        finally:
            for process in self.processes:
                process.resume()
                if process.usable:
                    with suppress(ModelProcessFailed):  # the next request tells; the measured times are not lost
                        process.reserve(0)
                process.restore_priority()
                if self.one_core:
                    process.pin(self._cores)

    @contextmanager
    def _watched_cores(self, allowance_s: float) -> Iterator[None]:
        """Measure how far the cores lie from each other meanwhile, where models have threads on several."""
        if self.one_core:
            yield
            return
        with self._core_watch.watched(self._cores, allowance_s) as self.placement:
            yield

    def wait_until_adjacent(self) -> tuple[float, float]:
        """While all processes stand still, let the cores come to lie side by side; their distance before and after."""
        if self.placement is None:
            return math.nan, math.nan
        self._pause()
        return self.placement.wait_until_adjacent()

    def core_distance(self) -> float:
        """While all processes stand still, how far the cores lie from each other; nan where unknown."""
        if self.placement is None:
            return math.nan
        self._pause()
        return self.placement.measure()

    def adjacent(self, core_distance: Sequence[float]) -> npt.NDArray[np.bool_]:
        """Tell for each round by its distance whether the cores lay side by side."""
        if self.placement is None:
            return np.ones(len(core_distance), dtype=bool)
        return self.placement.adjacent(core_distance)

    def counted(self, core_distance: Sequence[float]) -> npt.NDArray[np.bool_]:
        """Tell which rounds count: those with the cores side by side; all where these are too few for an interval."""
        adjacent = self.adjacent(core_distance)
        return adjacent if adjacent.sum() >= LEAST_ROUNDS else np.ones_like(adjacent)

    def core_facts(self, core_distance: Sequence[float]) -> dict[str, Any]:
        """Summarise the cores for a protocol; nothing where it makes no difference how they lie."""
        if self.placement is not None:
            return {"core_distance": self.placement.facts(core_distance, self.counted(core_distance))}
        return {} if self.one_core or len(self._cores) < 2 else {"core_distance": {"watched": False}}

    def restart(self, rng: np.random.Generator) -> None:
        """Let every model go on in a fresh process; libraries load at the same time, models in random order."""
        for process in self.processes:
            process.restart()
        for index in rng.permutation(len(self.processes)):
            self.processes[index].reload()
        self._raise_priority()

    def draw_core(self, rng: np.random.Generator) -> None:
        """Pin models of one thread together to a core drawn at random."""
        if self.one_core:
            core = int(rng.choice(self._cores))
            for process in self.processes:
                process.pin({core})

    def reserve(self, tokens: int) -> bool:
        """Let every process hold memory for prompts of so many tokens; False where one does not hold all of it."""
        return all([self.pause_others(index).reserve(tokens) for index in range(len(self.processes))])

    def pause_others(self, index: int) -> _Process:
        """Let all processes but one stand still; returns that one, by its index."""
        for other, process in enumerate(self.processes):
            if other != index:
                process.pause()
        return self.processes[index]

    def _pause(self) -> None:
        for process in self.processes:
            process.pause()

    def _raise_priority(self) -> None:
        self.priority_raised = all([process.raise_priority() for process in self.processes])
