"""When a search ends so that its confirmation and export still fit ``stop.total``."""

from __future__ import annotations

from typing import Any

import pytest

from olivine.evaluators.measurement import Measurement
from olivine.passes.catalog import LANGUAGE
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.load import parse_config
from olivine.search.records import TrialRecord
from olivine.search.study.stopping import (
    DEFAULT_THREADS_S,
    EXPORT_S,
    PROPOSE_S,
    RESTART_S,
    seconds_needed,
    seconds_of_finish,
    seconds_spent,
)


def config(confirm: dict[str, Any] | None = None) -> LanguageStudyConfig:
    evaluation = {"windows": 8, "latency": {"max_seconds": 5}}
    raw = {"model": "some/model", "space": {"precision": ["int8", "int4"]}, "evaluation": evaluation}
    return parse_config(raw | {"confirm": {"members": 4, "race": None} | (confirm or {})}, "test.yaml")


def record(number: int, scored: int = 8, **phases: float) -> TrialRecord:
    """A trial with so many of its 8 windows scored."""
    perplexity = Measurement.exact("perplexity", "1", 20.0, windows=scored, windows_asked=8)
    metrics = {"perplexity": perplexity} if scored else {}
    return TrialRecord(number, "complete", "", {}, LANGUAGE.recipe([]), f"key{number}", phases=phases, metrics=metrics)


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


def test_windows_that_a_stopped_candidate_was_spared_are_scored_in_confirmation() -> None:
    stopped = [*RECORDS, *(record(n, scored=2, build=2.0, load=1.0, quality=1.0) for n in (2, 3, 4))]
    assert seconds_of_finish(config(), stopped, 3) == pytest.approx(seconds_of_finish(config(), RECORDS, 3))


def test_the_next_candidate_may_be_scored_and_timed_in_full_though_the_last_ones_were_stopped() -> None:
    stopped = [*RECORDS, *(record(n, scored=2, build=2.0, load=1.0, quality=1.0) for n in (2, 3, 4))]
    gap = seconds_needed(config(), stopped, 1) - seconds_of_finish(config(), stopped, 1)
    assert gap == pytest.approx(2.0 + 1.0 + 4.0 + 7.0 + PROPOSE_S)


def test_a_candidate_that_failed_while_it_was_scored_says_nothing_of_the_whole_text() -> None:
    failed = [BASE, record(1, scored=0, build=2.0, load=1.0, quality=0.5)]
    member = 1.0 + 6.0 + 5.0
    expected = 6.0 + member + DEFAULT_THREADS_S + 1.0 + 5.0 + EXPORT_S + 2.0
    assert seconds_of_finish(config(), failed, 1) == pytest.approx(expected)
