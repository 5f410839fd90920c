"""Which front members are confirmed: spread along the front, or those that may be selected."""

from __future__ import annotations

from typing import Any

import pytest

from olivine.search.config import StudyConfig, parse_config
from olivine.search.members import to_confirm
from olivine.search.records import TrialRecord


def record(number: int, tpot_ms: float, ratio: float, half: float = 0.01) -> TrialRecord:
    metrics = {
        "tpot_ms": {"value": tpot_ms, "low": tpot_ms, "high": tpot_ms},
        "perplexity_ratio": {"value": ratio, "low": ratio - half, "high": ratio + half},
    }
    return TrialRecord(number, "complete", "", {}, [], f"key{number}", metrics=metrics)


def config(count: int, **confirm: Any) -> StudyConfig:
    select = {"where": ["perplexity_ratio <= 1.05"]}
    raw = {"model": "some/model", "space": {"precision": ["int8", "int4"]}, "select": select}
    return parse_config(raw | {"confirm": {"members": count, **confirm}}, "test.yaml")


#: Trial 0 is the base, which is no candidate.
FRONT = [
    record(0, 20.0, 1.0, 0.0),
    *(record(n, 5.0 + n, ratio) for n, ratio in enumerate((1.3, 1.2, 1.055, 1.04, 1.03, 1.02, 1.01), start=1)),
]


def numbers(front: list[TrialRecord], asked: StudyConfig) -> list[int]:
    return [member.number for member in to_confirm(front, asked)]


def test_a_study_confirms_along_its_whole_front() -> None:
    assert numbers(FRONT, config(3)) == [1, 4, 7]


def test_selectable_members_are_the_fastest_that_may_keep_the_limit_and_the_safest() -> None:
    assert numbers(FRONT, config(3, selectable=True)) == [3, 4, 7]


def test_a_member_that_surely_breaks_the_limit_is_left_out_even_where_there_is_room() -> None:
    assert numbers(FRONT, config(8, selectable=True)) == [3, 4, 5, 6, 7]


def test_where_none_may_keep_it_the_front_is_confirmed_for_its_nearest_misses() -> None:
    assert numbers(FRONT[:3], config(3, selectable=True)) == [1, 2]


@pytest.mark.parametrize("count", [1, 2])
def test_no_more_than_asked(count: int) -> None:
    assert len(to_confirm(FRONT, config(count, selectable=True))) == count
