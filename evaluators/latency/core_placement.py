"""Placement: models of several threads are timed while the machine's cores lie side by side.

Where a host moves virtual cores apart and back (:mod:`olivine.evaluators.latency.core_distance`), a speedup depends on
when it was measured. Cores that have rested for some milliseconds wake up side by side, as they do in a program that
waits for its next prompt; so the models rest until that is so. Rounds in which the cores were elsewhere are left out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Below this distance two cores share the caches of one: a host runs both on it, or they are its two hyperthreads.
STACKED = 1.25
#: Cores are apart when their distance is this many times the least one seen of cores that are not stacked.
FAR = 1.75
#: A distance that only cores on one chip have; above it a nearer one is looked for.
SURELY_NEAR = 2.5
#: Seconds that cores rest at a time, at once at most, and in search of a nearer distance before any is known.
NAP_S, REST_S, SEARCH_S = 0.003, 1.0, 0.3


def oddest(distances: Sequence[float]) -> float:
    """Of several distances the one that lies furthest from that of cores side by side; nan where all are unknown."""
    known = [distance for distance in distances if not math.isnan(distance)]
    if not known:
        return math.nan
    return min(known) if min(known) < STACKED else max(known)


@dataclass
class Placement:
    """Watches how far the cores lie from each other.

    Attributes:
        distance: measures it now, while nothing else runs; None where it can't be told.
        allowance_s: the longest that the cores may rest altogether, looks in between not counted.
        nap: rests for so many seconds.
        nearest: the least distance seen of cores that are not stacked, in earlier measurements too where it is known.
        rested_s: how long they have rested.
        looks, stacked_looks: how often somebody looked without resting, and found them stacked.
    """

    distance: Callable[[], float | None]
    allowance_s: float
    nap: Callable[[float], None] = time.sleep
    nearest: float = math.inf
    rested_s: float = 0.0
    looks: int = 0
    stacked_looks: int = 0

    def settle(self) -> tuple[float, float]:
        """Rest until the cores lie side by side, or have rested long enough.

        Returns:
            Their distance before and after, nan where unknown: by the one, whoever ran before judges what he measured,
            by the other, whoever runs next.
        """
        arrival = now = self.look()
        before = self.rested_s
        while self._elsewhere(now) and self.rested_s - before < REST_S and self.rested_s < self.allowance_s:
            self.nap(NAP_S)
            self.rested_s += NAP_S
            now = self._measured()
        return arrival, now

    def near(self, distances: Sequence[float]) -> npt.NDArray[np.bool_]:
        """Which of these distances are those of cores side by side; an unknown one is taken for near."""
        values = np.asarray(distances, dtype=float)
        # Of cores that lie so most of the time it is their place: hyperthreads of one core.
        usually_stacked = 2 * self.stacked_looks >= self.looks
        elsewhere: npt.NDArray[np.bool_] = (values > FAR * self.nearest) | ((values < STACKED) & (not usually_stacked))
        return ~elsewhere

    def look(self) -> float:
        """Their distance now; nan where unknown."""
        found = self._measured()
        self.looks += 1
        self.stacked_looks += found < STACKED
        return found

    def _measured(self) -> float:
        found = self.distance()
        if found is None:
            return math.nan
        if found >= STACKED:
            self.nearest = min(self.nearest, found)
        return found

    def _elsewhere(self, distance: float) -> bool:
        """Whether to rest on: the cores don't lie side by side, or it isn't known yet how near that is."""
        if math.isnan(distance):
            return False
        searching = distance > SURELY_NEAR and self.nearest > SURELY_NEAR and self.rested_s < SEARCH_S
        return searching or not self.near([distance])[0]
