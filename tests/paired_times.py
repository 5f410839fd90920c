"""Simulated times of two processes that are equally fast, as a shared machine gives them."""

from __future__ import annotations

import math

import numpy as np

from olivine.evaluators.stats import Floats


def times(rng: np.random.Generator, rounds: int, processes: int, luck: float) -> Floats:
    """[2, rounds] times of two processes that are equally fast: moods that they share, hits, luck by process."""
    moods = np.exp(0.15 * np.cumsum(rng.normal(0, 0.3, rounds)))
    hits = 1 + rng.exponential(0.3, (2, rounds)) * (rng.random((2, rounds)) < 0.3)
    owner = np.arange(rounds) * processes // rounds
    lucky = rng.normal(0, luck / math.sqrt(2), (2, processes))[:, owner]
    found: Floats = moods * hits * np.exp(rng.normal(0, 0.02, (2, rounds)) + lucky)
    return found
