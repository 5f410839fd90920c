"""Each caution appears where its cause is, names the cure, and stays away otherwise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from olivine.evaluators.latency.warnings import core_warnings, oversubscribed, timing_warnings, too_short
from olivine.evaluators.process.procfs import frequency_governor, stolen_s

CALM: Sequence[Sequence[float]] = [[101.0, 100.0, 99.0, 100.0], [50.0, 51.0, 50.0]]


def cautions(
    stolen: float = 0.0, governor: str | None = None, steady: bool = True, times: Sequence[Sequence[float]] = CALM
) -> list[str]:
    return list(timing_warnings(stolen, governor, steady, times))


def test_a_calm_measurement_has_none() -> None:
    assert cautions() == []
    assert cautions(governor="performance", stolen=0.01) == []


@pytest.mark.parametrize(
    ("disturbance", "cause", "cure"),
    [
        (cautions(stolen=0.1), "10%", "not shared"),
        (cautions(governor="powersave"), "'powersave'", "frequency-set -g performance"),
        (cautions(steady=False), "readings still fell", "max_seconds"),
        (cautions(times=[[150.0, 100.0, 100.0], [50.0, 50.0]]), "1.5 times as long", "max_seconds"),
    ],
)
def test_a_cause_brings_one_sentence_with_its_cure(disturbance: list[str], cause: str, cure: str) -> None:
    (warning,) = disturbance
    assert cause in warning
    assert cure in warning


def test_a_graph_that_is_no_decoder_has_runs_and_no_prefills() -> None:
    (warning,) = timing_warnings(0.0, None, True, [[150.0, 100.0, 100.0]], "run")
    assert warning.startswith("The first run that counts")


def test_more_threads_than_cores() -> None:
    assert oversubscribed(2, 2) is None
    assert "8 threads on 2 cores" in str(oversubscribed(8, 2))


def test_a_text_that_is_too_short_says_how_long_it_has_to_be() -> None:
    assert too_short(0.01, 0.01, 8) is None
    assert "Score 32 windows" in str(too_short(0.02, 0.01, 8))
    assert "Too few windows (1)" in str(too_short(math.inf, 0.01, 1))


def test_this_machine_is_read() -> None:
    assert stolen_s() >= 0
    governor = frequency_governor()
    assert governor is None or governor.isidentifier()


def test_cores_that_count_though_they_were_moved_or_could_not_be_watched_are_a_caution() -> None:
    calm = {"rounds_moved": 3, "moved_counted": False, "rounds_unknown": 4}
    assert list(core_warnings(calm, 20)) == list(core_warnings({}, 20)) == []
    (moved,) = core_warnings(calm | {"moved_counted": True}, 20)
    assert "moved the cores of this virtual machine in 3 rounds" in moved
    (unwatched,) = core_warnings({"watched": False}, 20)
    assert "memfd_create" in unwatched
    (unknown,) = core_warnings(calm | {"rounds_unknown": 11}, 20)
    assert "in 11 of 20 rounds" in unknown
