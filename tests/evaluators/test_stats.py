"""Every interval covers as often as it says, by simulation; closed forms where they exist."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from olivine.evaluators import stats
from olivine.evaluators.stats import Interval

RUNS = 1000
SAMPLES = hnp.arrays(np.float64, st.integers(8, 30), elements=st.floats(-5, 5))


def coverage(trial: Callable[[np.random.Generator], tuple[Interval, float]], runs: int = RUNS) -> float:
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(runs):
        interval, truth = trial(rng)
        hits += interval.low <= truth <= interval.high
    return hits / runs


@pytest.mark.parametrize("count", [9, 14, 24])
@pytest.mark.parametrize("tails", [1.5, 3.0, 100.0])
def test_hodges_lehmann_covers(count: int, tails: float) -> None:
    measured = coverage(lambda rng: (stats.hodges_lehmann(rng.standard_t(tails, count)), 0.0))
    assert 0.93 <= measured <= 0.97


def test_hodges_lehmann_covers_beyond_the_exact_table() -> None:
    assert 0.93 <= coverage(lambda rng: (stats.hodges_lehmann(rng.normal(0, 1, 60)), 0.0), 600) <= 0.97


@pytest.mark.parametrize("count", [8, 20, 60])
def test_the_clustered_mean_covers_when_windows_differ(count: int) -> None:
    def trial(rng: np.random.Generator) -> tuple[Interval, float]:
        tokens = rng.integers(300, 512, count).astype(float)
        levels = rng.normal(3.0, 0.4, count)  # what a window's tokens share
        return stats.clustered_mean(levels * tokens + rng.normal(0, 20, count), tokens), 3.0

    assert 0.93 <= coverage(trial) <= 0.97


@pytest.mark.parametrize("count", [2, 5, 30])
def test_student_covers(count: int) -> None:
    assert 0.93 <= coverage(lambda rng: (stats.student(rng.normal(1, 2, count)), 1.0)) <= 0.97


@pytest.mark.parametrize("skewed", [False, True])
def test_looking_after_every_window_errs_in_at_most_5_percent(skewed: bool) -> None:
    def ever_wrong(rng: np.random.Generator) -> bool:
        # Skewed as a mean over 500 tokens of a skewed quantity still is.
        samples = rng.gamma(25, 1 / 25, 40) - 1 if skewed else rng.normal(0, 1, 40)
        intervals = (stats.anytime_mean(samples[:seen]) for seen in range(2, 41))
        return any(not interval.low <= 0 <= interval.high for interval in intervals)

    rng = np.random.default_rng(3)
    assert sum(ever_wrong(rng) for _ in range(800)) / 800 <= 0.05


def test_three_windows_can_tell_a_clear_loser() -> None:
    assert stats.anytime_mean(np.array([0.65, 0.68, 0.70])).low > math.log(1.05)
    assert stats.anytime_mean(np.array([0.65, 0.68])).low == -math.inf


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    [
        (1, 12.7062),
        (2, 4.3027),
        (3, 3.1824),
        (4, 2.7764),
        (7, 2.3646),
        (15, 2.1314),
        (30, 2.0423),
        (500, 1.9647),
    ],
)
def test_student_s_intervals_are_those_of_the_tables(degrees: int, quantile: float) -> None:
    samples = np.arange(degrees + 1.0)
    error = np.std(samples, ddof=1) / math.sqrt(degrees + 1)
    assert stats.student(samples).half_width / error == pytest.approx(quantile, abs=1e-4)


def test_signed_rank_ends_are_those_of_the_tables() -> None:
    # Hollander, Wolfe and Chicken, table A.4: n = 8, 95 %: the 4th smallest and largest of the 36 Walsh
    # averages.
    interval = stats.hodges_lehmann(np.arange(8.0))
    assert (interval.low, interval.value, interval.high) == (1.0, 3.5, 6.0)


def test_too_few_samples_give_no_false_certainty() -> None:
    few = np.array([1.0, 1.01, 0.99, 1.0, 1.02])
    assert stats.hodges_lehmann(np.log(few)).high == math.inf
    assert stats.student(few[:1]).high == math.inf
    assert stats.clustered_mean(few[:1], few[:1]).low == -math.inf


@given(samples=SAMPLES, shift=st.floats(-3, 3))
def test_estimates_move_with_the_samples(samples: np.ndarray, shift: float) -> None:
    for estimate in (stats.hodges_lehmann, stats.student, stats.anytime_mean):
        plain, moved = estimate(samples), estimate(samples + shift)
        assert moved.value == pytest.approx(plain.value + shift, abs=1e-6)
        assert plain.low - 1e-9 <= plain.value <= plain.high + 1e-9


@given(value=st.floats(-5, 5), width=st.floats(0.01, 3), other=st.floats(-5, 5))
def test_probabilities_of_both_orders_add_to_one(value: float, width: float, other: float) -> None:
    a, b = Interval(value, value - width, value + width), Interval(other, other - 0.1, other + 0.1)
    assert stats.probability_less(a, b) + stats.probability_less(b, a) == pytest.approx(1.0)


def test_the_probability_is_that_of_the_normal_distribution() -> None:
    a, b = Interval(0.0, -1.959964, 1.959964), Interval(1.0, 1.0, 1.0)
    assert stats.probability_less(a, b) == pytest.approx(0.841345, abs=1e-5)
    exact = Interval(2.0, 2.0, 2.0)
    assert stats.probability_less(exact, exact) == 0.5
    assert stats.probability_less(b, exact) == 1.0


@given(samples=SAMPLES)
def test_the_jackknife_of_a_mean_is_students_interval(samples: np.ndarray) -> None:
    measured, plain = stats.jackknife(list(samples), lambda some: float(np.mean(some))), stats.student(samples)
    expected = pytest.approx((plain.value, plain.low, plain.high), abs=1e-6)
    assert (measured.value, measured.low, measured.high) == expected


def test_the_jackknife_covers_a_ratio_of_sums() -> None:
    def trial(rng: np.random.Generator) -> tuple[Interval, float]:
        words = rng.integers(5, 60, 50)
        documents = [(-3.0 * n + rng.normal(0, 2 * math.sqrt(n)), n) for n in words]
        return stats.jackknife(
            documents, lambda some: math.exp(-sum(a for a, _ in some) / sum(b for _, b in some))
        ), 20.0855

    assert 0.92 <= coverage(trial, 300) <= 0.98
    assert stats.jackknife([1.0], max).high == math.inf


def test_a_proportion_has_wilsons_interval_also_where_all_are_hits() -> None:
    measured, z2 = stats.proportion(20, 20), 1.959964**2
    assert (measured.value, measured.high) == (1, 1)
    assert measured.low == pytest.approx(20 / (20 + z2), abs=1e-6)
    assert stats.proportion(0, 20).high == pytest.approx(z2 / (20 + z2), abs=1e-6)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_proportion_covers(share: float) -> None:
    assert coverage(lambda rng: (stats.proportion(int(rng.binomial(60, share)), 60), share)) > 0.92
