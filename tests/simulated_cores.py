"""Cores whose distance is made up, in place of :class:`olivine.evaluators.latency.core_distance.CoreDistance`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest


def simulate(monkeypatch: pytest.MonkeyPatch, measure: Callable[[], float]) -> None:
    """Let measurements see two cores, so far from each other, and know of no earlier ones."""

    class Cores:
        def __init__(self) -> None:
            self.measure = measure

        @classmethod
        def start(cls, cores: Sequence[int]) -> Cores | None:
            return cls() if len(cores) > 1 else None

        def close(self) -> None:
            pass

    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    monkeypatch.setattr("olivine.evaluators.latency.interleave._NEAREST", {})
    monkeypatch.setattr("olivine.evaluators.latency.interleave.CoreDistance", Cores)
