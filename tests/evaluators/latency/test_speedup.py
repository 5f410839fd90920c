"""Speedups from paired times: how often the intervals hold the truth, by simulation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from paired_times import times

from olivine.evaluators.latency import speedup as paired
from olivine.evaluators.stats import Floats, Interval

SAMPLES = hnp.arrays(np.float64, st.integers(8, 30), elements=st.floats(-5, 5))
Speedup = Callable[[Floats, Floats, int], Interval]


def coverage(speedup: Speedup, rounds: int, processes: int, luck: float, runs: int) -> tuple[float, float]:
    """Share of intervals that hold the truth, and the mean error."""
    rng = np.random.default_rng(11)
    hits, errors = 0, []
    for _ in range(runs):
        base, candidate = times(rng, rounds, processes, luck)
        interval = speedup(1.3 * base, candidate, processes)
        hits += interval.low <= math.log(1.3) <= interval.high
        errors.append(interval.value - math.log(1.3))
    return hits / runs, float(np.mean(errors))


@pytest.mark.parametrize(("rounds", "processes"), [(9, 2), (14, 4), (45, 10)])
def test_the_prefill_speedup_covers_and_is_unbiased(rounds: int, processes: int) -> None:
    covered, bias = coverage(paired.prefill_speedup, rounds, processes, paired.PREFILL_PROCESS_SD, 400)
    assert 0.93 <= covered <= 0.97
    assert abs(bias) < 0.004


@pytest.mark.parametrize(("visits", "processes"), [(18, 2), (28, 4), (90, 10)])
def test_the_decode_speedup_covers_and_is_unbiased(visits: int, processes: int) -> None:
    covered, bias = coverage(paired.decode_speedup, visits, processes, paired.DECODE_PROCESS_SD, 400)
    assert 0.93 <= covered <= 0.97
    assert abs(bias) < 0.005


def test_an_interval_that_knows_of_no_luck_is_too_narrow_where_there_is_some() -> None:
    covered, _ = coverage(lambda base, own, _: paired.paired_speedup(base, own), 45, 1, 0.03, 200)
    assert covered < 0.85


def test_luck_widens_both_sides_in_quadrature() -> None:
    interval = paired.with_process_error(Interval(0.1, 0.07, 0.14), 0.02, 1)
    half = 1.959964 * 0.02
    assert interval.low == pytest.approx(0.1 - math.hypot(0.03, half), abs=1e-6)
    assert interval.high == pytest.approx(0.1 + math.hypot(0.04, half), abs=1e-6)
    assert paired.with_process_error(Interval(0.0, -math.inf, math.inf), 0.02, 1).low == -math.inf


def test_neighbours_widen_what_is_unlike_alone() -> None:
    alike, unlike, slower = (Interval(value, value - 0.02, value + 0.02) for value in (0.0, 1.4, -1.4))
    assert paired.with_noisy_neighbours(alike) == alike
    half = math.hypot(0.02, 1.959964 * 1.4 * paired.NOISY_NEIGHBOUR_SHARE)
    for wide in (paired.with_noisy_neighbours(unlike), paired.with_noisy_neighbours(slower)):
        assert wide.half_width == pytest.approx(half, abs=1e-6)


def test_processes_count_by_how_evenly_rounds_are_spread_over_them() -> None:
    assert paired.kish_effective_count([0, 0, 1, 1, 3, 3]) == pytest.approx(3)
    assert paired.kish_effective_count([0] * 50 + [1] * 4) == pytest.approx(54**2 / (50**2 + 4**2))
    base = np.full(20, 2.0)
    few, many = (paired.e2e_speedup(base, base, processes) for processes in (1.0, 4.0))
    assert few.half_width == pytest.approx(2 * many.half_width, rel=0.01)


def test_too_few_rounds_give_no_false_certainty() -> None:
    few = np.array([1.0, 1.01, 0.99, 1.0, 1.02])
    assert paired.paired_speedup(few, few).low == -math.inf
    assert paired.decode_speedup(few, few, 1).high == math.inf


@given(samples=SAMPLES, seed=st.integers(0, 5))
def test_a_speedup_read_the_other_way_round_is_its_inverse(samples: np.ndarray, seed: int) -> None:
    base, candidate = np.exp(samples), np.exp(samples[::-1] * 0.5)
    there, back = (
        paired.paired_speedup(base, candidate, seed=seed),
        paired.paired_speedup(candidate, base, seed=seed),
    )
    assert there.value == pytest.approx(-back.value, abs=1e-9)
    assert there.low - 1e-9 <= there.value <= there.high + 1e-9
