"""When a search ends so that its confirmation and export still fit ``stop.total``."""

from __future__ import annotations

from typing import Any

import pytest

from olivine.search.config import StudyConfig, parse_config
from olivine.search.records import TrialRecord
from olivine.search.time_left import (
    DEFAULT_THREADS_S,
    EXPORT_S,
    PROPOSE_S,
    RESTART_S,
    seconds_needed,
    seconds_of_finish,
    seconds_spent,
)


def config(confirm: dict[str, Any] | None = None) -> StudyConfig:
    evaluation = {"windows": 8, "latency": {"max_seconds": 5}}
    raw = {"model": "some/model", "space": {"precision": ["int8", "int4"]}, "evaluation": evaluation}
    return parse_config(raw | {"confirm": {"members": 4, "race": None} | (confirm or {})}, "test.yaml")


def record(number: int, **phases: float) -> TrialRecord:
    return TrialRecord(number, "complete", "", {}, [], f"key{number}", phases=phases)


BASE = record(0, build=20.0, load=1.0, quality=6.0, latency=5.0)
RECORDS = [BASE, record(1, build=2.0, load=1.0, quality=4.0, latency=7.0)]


def test_time_is_what_the_phases_took() -> None:
    assert seconds_spent(RECORDS) == 32.0 + 14.0


def test_a_finish_scores_the_base_confirms_the_members_times_one_thread_and_exports() -> None:
    member = 1.0 + 4.0 + 7.0
    expected = 6.0 + 2 * member + DEFAULT_THREADS_S + 1.0 + 7.0 + EXPORT_S + 2.0
    assert seconds_of_finish(config(), RECORDS, 2) == pytest.approx(expected)


def test_a_longer_timing_starts_more_processes_more_windows_take_longer_and_a_race_its_time() -> None:
    longer = config({"max_seconds": 10, "windows": 16, "race": 9})
    more = seconds_of_finish(longer, RECORDS, 1) - seconds_of_finish(config(), RECORDS, 1)
    assert more == pytest.approx(6.0 + 4.0 + 5.0 + 2 * (RESTART_S + 1.0) + 9.0)


def test_one_more_candidate_takes_what_the_slowest_of_the_last_took() -> None:
    slow_once = [*RECORDS, *(record(n, build=1.0, load=1.0, quality=4.0, latency=7.0) for n in (2, 3, 4))]
    gap = seconds_needed(config(), slow_once, 1) - seconds_of_finish(config(), slow_once, 1)
    assert gap == pytest.approx(13.0 + PROPOSE_S)


def test_no_more_members_are_counted_than_are_confirmed() -> None:
    assert seconds_of_finish(config(), RECORDS, 40) == seconds_of_finish(config(), RECORDS, 4)


def test_where_no_candidate_was_timed_the_base_tells_how_long_it_takes() -> None:
    stopped = [BASE, record(1, build=2.0, load=1.0, quality=3.0)]
    member = 1.0 + 3.0 + 5.0
    expected = 6.0 + member + DEFAULT_THREADS_S + 1.0 + 5.0 + EXPORT_S + 2.0
    assert seconds_of_finish(config(), stopped, 0) == pytest.approx(expected)
