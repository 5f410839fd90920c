"""How likely points with errors are dominated: closed forms, the exact front as the limit, and what is confirmed."""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from study_folder import OBJECTIVES, entry, record, records

from olivine.search.pareto import Floats, front, nondominated
from olivine.search.selection.dominance_probability import SURE, dominated_among, dominated_probability, likely_front

ENDS = ("value", "low", "high")
POINTS = st.integers(1, 8).flatmap(lambda n: arrays(np.float64, (n, 2), elements=st.integers(0, 6).map(float)))


@settings(max_examples=20, deadline=None)
@given(POINTS)
def test_without_errors_it_is_the_front(points: Floats) -> None:
    found = dominated_probability(points, np.zeros_like(points))
    assert (found == 1 - nondominated(points)).all()


def test_two_points_are_dominated_as_the_normal_distribution_says() -> None:
    centres, errors = np.array([[0.0, 0.0], [0.5, 1.0]]), np.array([[1.0, 0.5], [0.0, 0.5]])
    expected = NormalDist().cdf(0.5) * NormalDist().cdf(1 / 0.5 / 2**0.5)
    assert dominated_probability(centres, errors)[1] == pytest.approx(expected, abs=0.02)


def test_equal_points_with_errors_are_dominated_one_time_in_four() -> None:
    centres = np.array([[1.0, 1.0], [1.0, 1.0]])
    assert dominated_probability(centres, np.full((2, 2), 0.1)) == pytest.approx([0.25, 0.25], abs=0.03)


def test_the_rate_of_true_members_that_are_dropped_is_below_the_level() -> None:
    rng = np.random.default_rng(5)
    truth = np.array([[1.0, 5.0], [2.0, 3.0], [2.02, 2.95], [4.0, 1.0], [3.0, 4.0]])
    errors = np.full_like(truth, 0.1)
    dropped = [
        (dominated_probability(truth + rng.normal(0, 0.1, truth.shape), errors, seed) >= SURE) for seed in range(40)
    ]
    rates = np.mean(dropped, axis=0)
    assert (rates[:4] <= 0.05).all()
    assert rates[4] == 1.0


def test_many_points_are_judged_in_seconds() -> None:
    points = np.random.default_rng(0).uniform(0, 1, (1500, 2))
    found = dominated_probability(points, np.full_like(points, 1e-4))
    assert ((found < 0.5) == nondominated(points)).mean() > 0.99


def test_a_near_tie_is_confirmed_beside_the_front_where_there_is_room() -> None:
    found = records()
    ahead = front(found, OBJECTIVES)
    rival = ahead[3]
    metrics = {name: replace(reading, value=reading.value * 1.0005) for name, reading in rival.metrics.items()}
    near = replace(rival, number=99, recipe_key="near", metrics=metrics)
    assert 99 not in [r.number for r in front([*found, near], OBJECTIVES)]
    assert 99 in [r.number for r in likely_front([*found, near], OBJECTIVES, 20)]
    assert 99 not in [r.number for r in likely_front([*found, near], OBJECTIVES, len(ahead))]


def test_a_sure_loser_is_not_confirmed() -> None:
    rival = record(5)
    metrics = {
        name: replace(reading, **{end: 1.2 * getattr(reading, end) for end in ENDS})
        for name, reading in rival.metrics.items()
    }
    loser = replace(rival, number=99, recipe_key="loser", metrics=metrics)
    assert 99 not in [r.number for r in likely_front([*records(), loser], OBJECTIVES, 99)]
    assert likely_front([], OBJECTIVES, 4) == []


def test_an_interval_without_an_end_is_no_certainty() -> None:
    exact = {"tpot_ms": entry("tpot_ms", 1.0), "perplexity_ratio": entry("perplexity_ratio", 1.0)}
    vague = {
        "tpot_ms": replace(entry("tpot_ms", 1.1), high=float("inf")),
        "perplexity_ratio": entry("perplexity_ratio", 1.1),
    }
    assert 0.3 < dominated_among([exact, vague], OBJECTIVES)[1] < 0.7
    assert record(3).feasible
