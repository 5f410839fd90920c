"""Cores whose distance is made up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from olivine.evaluators.latency.core_placement import CoreWatch


class SimulatedMeter:
    """Measures a distance that is made up; see :class:`olivine.evaluators.latency.core_distance.CoreDistance`."""

    def __init__(self, distance: Callable[[], float | None]) -> None:
        self.measure = distance

    def close(self) -> None:
        pass


def simulated_cores(distance: Callable[[], float | None] = lambda: 1.6, cores: Sequence[int] = (0, 1)) -> CoreWatch:
    """Cores so far from each other, which rest in no time; no earlier measurement knows of them."""
    return CoreWatch(
        lambda: cores, lambda of: SimulatedMeter(distance) if len(of) > 1 else None, sleep=lambda seconds: None
    )
