"""Cores that a host moves: simulated ones for the rules, this machine's own for the reading."""

from __future__ import annotations

import itertools
import math
import os
import signal
import time
from collections.abc import Iterable
from contextlib import closing

import numpy as np
import pytest

from olivine.evaluators.latency import core_placement as module
from olivine.evaluators.latency.core_distance import MAX_PAIRS, CoreDistance, partners
from olivine.evaluators.latency.core_placement import NAP_S, REST_S, SEARCH_S, Placement, least_adjacent
from olivine.evaluators.process.scheduling import own_cores

NEAR, APART, STACKED = 1.6, 5.0, 1.05
#: Others may keep a core busy while tests run.
PATIENT_S = 10.0


def watched(distances: Iterable[float | None], allowance_s: float = 100.0) -> tuple[Placement, list[float]]:
    """A placement that reads these distances one after the other, and its naps."""
    naps: list[float] = []
    return Placement(iter(distances).__next__, allowance_s, naps.append), naps


def test_cores_side_by_side_need_no_rest() -> None:
    placement, naps = watched([NEAR, NEAR * 1.2])
    assert placement.wait_until_adjacent() == (NEAR, NEAR)
    assert placement.wait_until_adjacent() == (NEAR * 1.2, NEAR * 1.2)
    assert naps == []


@pytest.mark.parametrize("elsewhere", [APART, STACKED])
def test_cores_that_are_elsewhere_rest_until_they_lie_side_by_side(elsewhere: float) -> None:
    placement, naps = watched([NEAR, NEAR, elsewhere, elsewhere, elsewhere, NEAR])
    placement.wait_until_adjacent()
    placement.wait_until_adjacent()
    assert placement.wait_until_adjacent() == (elsewhere, NEAR)
    assert naps == [NAP_S] * 3
    assert placement.rested_s == pytest.approx(3 * NAP_S)


def test_rest_ends_after_a_while_and_altogether() -> None:
    placement, naps = watched(itertools.chain([NEAR], itertools.repeat(APART)), allowance_s=1.5)
    placement.wait_until_adjacent()
    assert placement.wait_until_adjacent() == (APART, APART)
    assert sum(naps) == pytest.approx(REST_S, abs=NAP_S)
    placement.wait_until_adjacent()
    placement.wait_until_adjacent()
    assert sum(naps) == pytest.approx(1.5, abs=NAP_S)


def test_a_nearer_place_is_looked_for_once_where_none_is_known() -> None:
    placement, naps = watched(itertools.repeat(4.0))
    placement.wait_until_adjacent()
    placement.wait_until_adjacent()
    assert sum(naps) == pytest.approx(SEARCH_S, abs=NAP_S)
    assert placement.adjacent([4.0, 4.5]).all()


def test_cores_that_the_host_always_stacks_are_as_near_as_they_get() -> None:
    placement, _ = watched(itertools.repeat(STACKED))
    placement.wait_until_adjacent()
    assert placement.adjacent([STACKED, STACKED]).all()
    assert not math.isfinite(placement.nearest)


def test_one_odd_reading_does_not_make_hyperthreads_of_one_core_elsewhere() -> None:
    placement, naps = watched([STACKED, STACKED, 1.3, *[STACKED] * 5])
    for _ in range(8):
        placement.wait_until_adjacent()
    assert naps == []
    assert placement.adjacent([STACKED, 1.3]).all()


def test_what_earlier_measurements_knew_is_known() -> None:
    placement = Placement(itertools.repeat(APART).__next__, 0.0, nearest=NEAR)
    assert placement.wait_until_adjacent() == (APART, APART)
    assert not placement.adjacent([APART])[0]


def test_what_is_unknown_is_neither_rested_for_nor_left_out() -> None:
    placement, naps = watched([NEAR, None, None])
    placement.wait_until_adjacent()
    assert all(math.isnan(distance) for distance in placement.wait_until_adjacent())
    assert naps == []
    assert placement.adjacent([math.nan, NEAR, APART, STACKED]).tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("distances", "odd"),
    [([NEAR, APART, NEAR], APART), ([APART, STACKED], STACKED), ([math.nan, NEAR], NEAR), ([], math.nan)],
)
def test_the_least_adjacent_moment_is_that_of_a_round(distances: list[float], odd: float) -> None:
    assert least_adjacent(distances) == pytest.approx(odd, nan_ok=True)


@pytest.fixture
def cores() -> list[int]:
    ratios = own_cores()
    if len(ratios) < 2:
        pytest.skip("a machine of one core")
    return ratios


def test_this_machine_tells_how_far_its_cores_lie_from_each_other(cores: list[int]) -> None:
    with closing(CoreDistance(cores, PATIENT_S)) as distance:
        ratios = [distance.measure() for _ in range(9)]
        assert all(ratio is not None for ratio in ratios)
        # What another core wrote is never nearer than what was read a moment ago.
        assert np.median([ratio for ratio in ratios if ratio is not None]) > 1.0
        assert sorted(os.sched_getaffinity(0)) == cores


def test_a_writer_that_is_gone_leaves_the_distance_unknown(cores: list[int]) -> None:
    with closing(CoreDistance(cores)) as distance:
        os.kill(distance.pid, signal.SIGKILL)
        os.waitid(os.P_PID, distance.pid, os.WEXITED | os.WNOWAIT)
        assert distance.measure() is None
        assert sorted(os.sched_getaffinity(0)) == cores


def test_a_writer_that_answers_too_late_answers_the_next_time(cores: list[int]) -> None:
    with closing(CoreDistance(cores, 0.5)) as distance:
        for _ in range(2):
            os.kill(distance.pid, signal.SIGSTOP)
            assert distance.measure() is None
        os.kill(distance.pid, signal.SIGCONT)
        assert any(distance.measure() is not None for _ in range(20))


def test_a_reader_that_stalls_is_answered_the_next_time(cores: list[int]) -> None:
    def stall(number: int, frame: object) -> None:
        time.sleep(0.2)  # the writer's patience ends meanwhile

    with closing(CoreDistance(cores, 0.1)) as distance:
        before = signal.signal(signal.SIGALRM, stall)
        try:
            for delay_s in (1e-5, 1e-4, 2e-4):
                signal.setitimer(signal.ITIMER_REAL, delay_s)
                distance.measure()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert any(distance.measure() is not None for _ in range(20))


def test_where_memory_can_t_be_shared_cores_are_not_watched(cores: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(name: str) -> int:
        raise PermissionError(name)

    monkeypatch.setattr("os.memfd_create", refused)
    assert CoreDistance.start(cores) is None
    assert CoreDistance.start(cores[:1]) is None


def test_a_core_that_was_taken_away_leaves_the_distance_unknown(cores: list[int]) -> None:
    with closing(CoreDistance([cores[0], 4000])) as distance:
        assert distance.measure() is None
    with closing(CoreDistance([4000, cores[0]])) as distance:
        assert distance.measure() is None
    assert own_cores() == cores


def test_pairs_of_many_cores_are_a_sample() -> None:
    assert partners([0, 1]) == [1]
    assert partners([3, 5, 8]) == [5, 8]
    many = partners(list(range(64)))
    assert len(many) == MAX_PAIRS == len(set(many))
    assert many[-1] > 50
    assert 0 not in many


def test_distances_of_a_round_are_compared_by_value() -> None:
    placement = Placement(lambda: NEAR, 0.0)
    placement.measure()
    assert placement.adjacent(np.linspace(1.3, 2.7, 5)).all()
    assert module.FAR * NEAR > 2.7
