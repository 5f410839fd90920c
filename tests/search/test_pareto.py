from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from optuna._hypervolume import compute_hypervolume
from study_folder import OBJECTIVES, record, records

from olivine.search.pareto import (
    Floats,
    front,
    hypervolume,
    hypervolume_history,
    knee,
    minimised,
    nearest_misses,
    nondominated,
    violation,
    weighted,
)

#: Few distinct values, so that ties and duplicates are common.
POINTS = st.tuples(st.integers(1, 12), st.integers(1, 3)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(0, 6).map(float))
)
FRONTS = st.tuples(st.integers(1, 12), st.integers(2, 3)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(-1e6, 1e6, allow_nan=False))
)


def dominates(a: Floats, b: Floats) -> bool:
    return bool((a <= b).all() and (a < b).any())


@given(POINTS)
def test_a_point_is_kept_exactly_when_no_other_dominates_it(points: Floats) -> None:
    expected = [not any(dominates(other, point) for other in points) for point in points]
    assert nondominated(points).tolist() == expected


@given(POINTS)
def test_the_front_is_never_empty_and_every_dropped_point_is_dominated_by_it(points: Floats) -> None:
    mask = nondominated(points)
    assert mask.any()
    assert all(any(dominates(kept, point) for kept in points[mask]) for point in points[~mask])


def test_of_equal_points_all_are_kept() -> None:
    assert nondominated(np.array([[1.0, 2.0], [1.0, 2.0], [3.0, 3.0]])).tolist() == [True, True, False]


@given(POINTS)
def test_hypervolume_agrees_with_optunas(points: Floats) -> None:
    reference = np.full(points.shape[1], 7.0)
    assert hypervolume(points, reference) == pytest.approx(compute_hypervolume(points, reference))


@given(POINTS)
def test_hypervolume_ignores_order_duplicates_and_dominated_points(points: Floats) -> None:
    reference = np.full(points.shape[1], 7.0)
    again = np.concatenate([points, points])[::-1]
    assert hypervolume(again, reference) == pytest.approx(hypervolume(points[nondominated(points)], reference))


def test_hypervolume_of_two_boxes_in_three_dimensions() -> None:
    # 2*2*2 and 3*1*1 below (3, 3, 3); they share 2*1*1.
    assert hypervolume([[1, 1, 1], [0, 2, 2]], [3, 3, 3]) == 8 + 3 - 2


def test_points_beyond_the_reference_add_nothing() -> None:
    assert hypervolume([[0.0, 5.0], [4.0, 4.0]], [4.0, 4.0]) == 0.0
    assert hypervolume(np.empty((0, 2)), [4.0, 4.0]) == 0.0


@given(FRONTS)
def test_knee_and_weighted_name_a_point_and_ignore_units(points: Floats) -> None:
    assert 0 <= knee(points) < len(points)
    scaled = points * 2.0**10  # exact in floating point, so ties stay ties
    assert knee(scaled) == knee(points)
    weights = [1.0] * points.shape[1]
    assert weighted(scaled, weights) == weighted(points, weights) == knee(points)


def test_the_knee_is_furthest_from_the_chord() -> None:
    points = np.array([[0.0, 10.0], [1.0, 2.0], [5.0, 1.5], [9.0, 0.0]])
    # Scaled to the front's range the chord is x + y = 1.
    below = [(1 - x / 9 - y / 10) / math.sqrt(2) for x, y in points]
    assert knee(points) == int(np.argmax(below)) == 1


def test_all_weight_on_one_objective_picks_its_best_point() -> None:
    points = np.array([[0.0, 10.0], [1.0, 2.0], [9.0, 0.0]])
    assert weighted(points, [1, 0]) == 0
    assert weighted(points, [0, 1]) == 2


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [1.0, 1.0, 1.0]])
def test_weights_that_are_none_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="no weights for 2 objectives"):
        weighted(np.array([[0.0, 1.0]]), weights)


def test_front_holds_feasible_records_only_fastest_first() -> None:
    found = [member.number for member in front(records(), OBJECTIVES)]
    assert found == [12, 3, 7, 10, 6, 5, 13, 1, 0]


def test_front_reads_directions_from_the_metrics() -> None:
    found = [member.number for member in front(records(), ("decode_tok_s", "perplexity_ratio"))]
    assert found == [12, 3, 7, 10, 6, 5, 13, 1, 0]
    assert minimised([record(3)], ("decode_tok_s",))[0, 0] < 0


def test_front_of_nothing_is_empty() -> None:
    assert front([], OBJECTIVES) == []
    assert front([record(2), record(15)], OBJECTIVES) == []


def test_history_grows_only_with_feasible_trials() -> None:
    history = hypervolume_history(records(), OBJECTIVES)
    assert len(history) == len(records())
    assert all(later >= earlier for earlier, later in pairwise(history))
    assert history[2] == history[1]
    assert hypervolume_history([record(2)], OBJECTIVES) == [0.0]


def test_nearest_misses_are_ordered_by_what_they_break() -> None:
    assert [miss.number for miss in nearest_misses(records(), 2)] == [11, 2]
    assert nearest_misses([record(1)], 3) == []
    assert violation(record(11)) == pytest.approx((1.8 - 1.2) / 1.2)
    assert violation(record(15)) == math.inf
