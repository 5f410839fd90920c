"""Placement: models of several threads are timed while the machine's cores lie side by side.

Where a host moves virtual cores apart and back (:mod:`olivine.evaluators.latency.core_distance`), a speedup depends on
when it was measured. Cores that have rested for some milliseconds wake up side by side, as they do in a program that
waits for its next prompt; so the models rest until that is so. Rounds in which the cores were elsewhere are left out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from olivine.evaluators.latency.core_distance import CoreDistance
from olivine.evaluators.process.scheduling import own_cores

#: Below this distance two cores share the caches of one: a host runs both on it, or they are its two hyperthreads.
STACKED = 1.25
#: Cores are apart when their distance is this many times the least one seen of cores that are not stacked.
FAR = 1.75
#: A distance that only cores on one chip have; above it a nearer one is looked for.
SURELY_NEAR = 2.5
#: Seconds that cores rest at a time, at once at most, and in search of a nearer distance before any is known.
NAP_S, REST_S, SEARCH_S = 0.003, 1.0, 0.3


def least_adjacent(distances: Sequence[float]) -> float:
    """Of several distances the one that lies furthest from that of cores side by side; nan where all are unknown."""
    known = [distance for distance in distances if not math.isnan(distance)]
    if not known:
        return math.nan
    return min(known) if min(known) < STACKED else max(known)


@dataclass
class Placement:
    """The distance of the cores over one measurement.

    Attributes:
        distance: measures it now, while nothing else runs; None where it can't be measured.
        allowance_s: the longest that the cores may rest altogether, readings in between not counted.
        sleep: rests for so many seconds.
        nearest: the least distance seen of cores that are not stacked, in earlier measurements too where it is known.
        rested_s: seconds that they have rested.
        readings: distances measured without resting.
        stacked: those of them that were of stacked cores.
    """

    distance: Callable[[], float | None]
    allowance_s: float
    sleep: Callable[[float], None] = time.sleep
    nearest: float = math.inf
    rested_s: float = 0.0
    readings: int = 0
    stacked: int = 0

    def wait_until_adjacent(self) -> tuple[float, float]:
        """Rest until the cores lie side by side, or have rested long enough.

        Returns:
            Their distance before and after, nan where unknown: the one belongs to the model that ran before, the
            other to the one that runs next.
        """
        arrival = now = self.measure()
        before = self.rested_s
        while self._elsewhere(now) and self.rested_s - before < REST_S and self.rested_s < self.allowance_s:
            self.sleep(NAP_S)
            self.rested_s += NAP_S
            now = self._measured()
        return arrival, now

    def measure(self) -> float:
        """Measure their distance now; nan where unknown."""
        distance = self._measured()
        self.readings += 1
        self.stacked += distance < STACKED
        return distance

    def adjacent(self, distances: Sequence[float]) -> npt.NDArray[np.bool_]:
        """Tell for each distance whether it is that of cores side by side; an unknown one is taken for it."""
        values = np.asarray(distances, dtype=float)
        # Of cores that lie so most of the time it is their place: hyperthreads of one core.
        usually_stacked = 2 * self.stacked >= self.readings
        elsewhere: npt.NDArray[np.bool_] = (values > FAR * self.nearest) | ((values < STACKED) & (not usually_stacked))
        return ~elsewhere

    def facts(self, distances: Sequence[float], counted: npt.NDArray[np.bool_]) -> dict[str, Any]:
        """Summarise the cores for a protocol.

        Args:
            distances: [rounds] the least adjacent distance in each.
            counted: [rounds] whether the round counts.
        """
        adjacent = self.adjacent(distances)
        return {
            "watched": True,
            "nearest": round(self.nearest, 2) if math.isfinite(self.nearest) else None,
            "rounds_moved": int((~adjacent).sum()),
            "rounds_unknown": int(np.isnan(distances).sum()),
            "moved_counted": bool((counted & ~adjacent).any()),
            "rested_s": round(self.rested_s, 3),
        }

    def _measured(self) -> float:
        distance = self.distance()
        if distance is None:
            return math.nan
        if distance >= STACKED:
            self.nearest = min(self.nearest, distance)
        return distance

    def _elsewhere(self, distance: float) -> bool:
        """Tell whether to rest on: the cores don't lie side by side, or it isn't known yet how near that is."""
        if math.isnan(distance):
            return False
        searching = distance > SURELY_NEAR and self.nearest > SURELY_NEAR and self.rested_s < SEARCH_S
        return searching or not self.adjacent([distance])[0]


class DistanceMeter(Protocol):
    """Measures how far cores lie from each other; :class:`CoreDistance` is one."""

    def measure(self) -> float | None:
        """Measure it now, while nothing else runs; None where it can't be measured."""

    def close(self) -> None:
        """End it."""


@dataclass(eq=False)
class CoreWatch:
    """Watches the cores of this machine while models are timed, and remembers their least distance.

    Attributes:
        cores: the cores that models may run on.
        start: starts to measure the distance of cores; None where it can't be measured.
        sleep: rests for so many seconds.
        nearest: cores -> the least distance seen between them.
    """

    cores: Callable[[], Sequence[int]] = own_cores
    start: Callable[[Sequence[int]], DistanceMeter | None] = CoreDistance.start
    sleep: Callable[[float], None] = time.sleep
    nearest: dict[tuple[int, ...], float] = field(default_factory=dict)

    @contextmanager
    def watched(self, cores: Sequence[int], allowance_s: float) -> Iterator[Placement | None]:
        """Watch these cores meanwhile; the placement is None where their distance can't be measured."""
        meter = self.start(cores)
        if meter is None:
            yield None
            return
        with closing(meter):
            known = self.nearest.get(tuple(cores), math.inf)
            placement = Placement(meter.measure, allowance_s, self.sleep, nearest=known)
            try:
                yield placement
            finally:
                self.nearest[tuple(cores)] = placement.nearest


#: The cores of this machine, whose least distance holds for all measurements of this process.
THIS_MACHINE = CoreWatch()
