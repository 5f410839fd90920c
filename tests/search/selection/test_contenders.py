"""Which candidates are confirmed: what the rule may pick, then others spread along the front."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from olivine.evaluators.measurement import Measurement
from olivine.passes.catalog import LANGUAGE
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.load import parse_config
from olivine.search.records import TrialRecord
from olivine.search.selection.contenders import choose_contenders
from olivine.search.selection.dominance_probability import likely_front
from olivine.search.selection.pick_probability import likely_picks

#: What the search of `make reference` measured of its candidates.
RECORDED = Path(__file__).with_name("reference_trials.csv")


def record(number: int, tpot_ms: float, ratio: float, half: float = 0.01, tpot_half: float = 0.0) -> TrialRecord:
    metrics = {
        "tpot_ms": Measurement("tpot_ms", "ms", tpot_ms, tpot_ms - tpot_half, tpot_ms + tpot_half),
        "perplexity_ratio": Measurement("perplexity_ratio", "ratio", ratio, ratio - half, ratio + half),
    }
    return TrialRecord(number, "complete", "", {}, LANGUAGE.recipe([]), f"key{number}", metrics=metrics)


def recorded(wider: float = 1.0) -> list[TrialRecord]:
    """The recorded candidates; with intervals of the ratio so much wider, as from fewer windows of text."""
    found = []
    for row in csv.DictReader(RECORDED.read_text().splitlines()):
        metrics = {}
        for name, unit, scale in (("tpot_ms", "ms", 1.0), ("perplexity_ratio", "ratio", wider)):
            value, *ends = (float(row[f"{name}{end}"]) for end in ("", "_low", "_high"))
            metrics[name] = Measurement(name, unit, value, *(value + scale * (end - value) for end in ends))
        number = int(row["trial"])
        found.append(TrialRecord(number, "complete", "", {}, LANGUAGE.recipe([]), f"key{number}", metrics=metrics))
    return found


def config(count: int, select: dict[str, Any] | None = None, **confirm: Any) -> LanguageStudyConfig:
    rule = select or {"where": ["perplexity_ratio <= 1.05"]}
    raw = {"model": "some/model", "space": {"precision": ["int8", "int4"]}, "select": rule}
    return parse_config(raw | {"confirm": {"members": count, **confirm}}, "test.yaml")


#: Trial 0 is the base, which is no candidate; of the others 4 is the fastest that keeps the limit, 3 nearly does.
FRONT = [
    record(0, 20.0, 1.0, 0.0),
    *(record(n, 5.0 + n, ratio) for n, ratio in enumerate((1.3, 1.2, 1.055, 1.04, 1.03, 1.02, 1.01), start=1)),
]


def numbers(front: list[TrialRecord], asked: LanguageStudyConfig) -> list[int]:
    return [member.number for member in choose_contenders(front, asked)]


def ranked(front: list[TrialRecord], asked: LanguageStudyConfig) -> list[int]:
    found = likely_front(front, asked.objectives, len(front))
    return [member.number for member in likely_picks(found, asked)]


def test_half_is_what_the_rule_may_pick_and_the_rest_is_spread_over_the_front() -> None:
    assert numbers(FRONT, config(3)) == [1, 4, 7]
    assert numbers(FRONT, config(4)) == [1, 3, 4, 7]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("selectable", [False, True])
def test_the_pick_by_the_searchs_values_is_always_confirmed(count: int, selectable: bool) -> None:
    found = numbers(FRONT, config(count, selectable=selectable))
    assert 4 in found
    assert len(found) == min(count, 5 if selectable else 7)


def test_runners_up_are_the_likeliest_picks_if_the_first_one_fails() -> None:
    assert ranked(FRONT[1:], config(3)) == [4, 3, 5, 6, 7]


@pytest.mark.parametrize("wider", [1.0, 4.0])
def test_lucky_candidates_do_not_crowd_out_the_fastest_that_keeps_the_limit(wider: float) -> None:
    allowed = [r for r in recorded() if r.value("perplexity_ratio") <= 1.05]
    fastest = min(allowed, key=lambda r: r.value("tpot_ms")).number
    for selectable in (False, True):
        found = numbers(recorded(wider), config(4, selectable=selectable))
        assert fastest in found
        assert len(found) == 4


def test_recorded_near_ties_of_the_pick_come_next() -> None:
    assert ranked(recorded(), config(6))[:3] == [25, 8, 30]


def test_the_fastest_within_an_allowed_loss_beats_faster_ones_that_hardly_keep_it() -> None:
    """Many fast candidates whose intervals reach the limit, as a short search leaves them; one surely keeps it."""
    lucky = [record(n, 5.0 + 0.01 * n, 1.09 + 0.002 * n, 0.045, 0.2) for n in range(1, 7)]
    sure = [record(10, 5.8, 1.027, 0.02, 0.2), record(11, 7.6, 1.01, 0.01, 0.2), record(12, 9.0, 1.0, 0.005, 0.2)]
    for count in (2, 4, 6):
        assert 10 in numbers([*lucky, *sure], config(count, selectable=True))


def test_selectable_members_are_the_likeliest_picks_and_the_safest() -> None:
    assert numbers(FRONT, config(3, selectable=True)) == [3, 4, 7]


def test_a_member_that_surely_breaks_the_limit_is_left_out_even_where_there_is_room() -> None:
    assert numbers(FRONT, config(8, selectable=True)) == [3, 4, 5, 6, 7]


def test_where_none_may_keep_it_the_front_is_confirmed_for_its_nearest_misses() -> None:
    for selectable in (False, True):
        assert numbers(FRONT[:3], config(3, selectable=selectable)) == [1, 2]


def test_the_pick_by_weights_and_at_the_knee_is_confirmed_between_the_ends() -> None:
    quality = {"by": "weights", "weights": {"tpot_ms": 0.1, "perplexity_ratio": 5}}
    assert ranked(FRONT[1:], config(3, quality))[0] == 7
    assert numbers(FRONT, config(3, {"by": "knee"}, selectable=True)) == [1, 3, 7]


def test_a_constraint_on_what_was_not_measured_excludes_nobody() -> None:
    asked = config(3, {"where": ["model_bytes <= 1MB", "perplexity_ratio <= 1.05"]})
    assert ranked(FRONT[1:], asked)[0] == 4


def sized(number: int, tpot_ms: float, ratio: float, megabytes: float, unsure: float = 0.0) -> TrialRecord:
    """A candidate with a limit on something that is no objective; ``unsure`` is half of its interval."""
    found = record(number, tpot_ms, ratio, 0.001)
    size = Measurement(
        "model_bytes", "bytes", *(1e6 * part for part in (megabytes, megabytes - unsure, megabytes + unsure))
    )
    return replace(found, metrics={**found.metrics, "model_bytes": size})


SMALL = {"where": ["model_bytes <= 250MB"]}


@pytest.mark.parametrize("select", [SMALL, SMALL | {"by": "knee"}])
@pytest.mark.parametrize("selectable", [False, True])
def test_one_that_keeps_the_limit_is_confirmed_though_one_that_breaks_it_beats_it(
    select: dict[str, Any], selectable: bool
) -> None:
    keeps, breaks = sized(1, 10.0, 1.05, 240), sized(2, 9.0, 1.03, 300)
    for count in (1, 2, 8):
        assert 1 in numbers([keeps, breaks], config(count, select, selectable=selectable))
    assert numbers([keeps, breaks], config(8, SMALL)) == [2, 1]


@pytest.mark.parametrize("megabytes", [245, 255])
def test_one_that_surely_keeps_the_limit_is_not_kept_out_by_one_that_may_break_it(megabytes: float) -> None:
    sure, doubtful = sized(1, 10.0, 1.05, 200), sized(2, 9.0, 1.03, megabytes, unsure=10)
    assert numbers([sure, doubtful], config(8, SMALL)) == [2, 1]


def test_one_that_is_beaten_by_another_within_the_limit_is_not_confirmed() -> None:
    beaten, better, breaks = sized(1, 11.0, 1.06, 230), sized(2, 10.0, 1.05, 240), sized(3, 9.0, 1.03, 300)
    assert numbers([beaten, better, breaks], config(8, SMALL)) == [3, 2]


def test_room_beside_the_front_goes_to_further_picks() -> None:
    within = [sized(n, 10.0 + n, 1.06 - 0.01 * n, 240) for n in range(1, 6)]
    assert numbers([*within, sized(9, 9.0, 1.001, 300)], config(6, SMALL)) == [9, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("count", [1, 2])
def test_no_more_than_asked(count: int) -> None:
    assert len(choose_contenders(FRONT, config(count, selectable=True))) == count


def test_where_other_text_may_break_the_limit_members_are_spread_from_it_to_the_safest() -> None:
    line = [FRONT[0], *(record(n, 5.0 + n, 1.05 - 0.005 * n) for n in range(1, 10))]
    asked = config(4, selectable=True)
    elsewhere = asked.evaluation.model_copy(update={"other_texts": {"books": "demo:encyclopedia"}})
    assert numbers(line, asked) == [1, 2, 3, 9]
    assert numbers(line, asked.model_copy(update={"evaluation": elsewhere})) in ([1, 2, 5, 9], [1, 2, 6, 9])


def test_the_best_in_each_of_three_objectives_is_confirmed() -> None:
    objectives = ["tpot_ms", "ttft_ms", "perplexity_ratio"]
    ttft = {1: 90.0, 2: 80.0, 3: 70.0, 4: 60.0, 5: 10.0, 6: 50.0, 7: 45.0}
    found = [
        replace(one, metrics={**one.metrics, "ttft_ms": Measurement("ttft_ms", "ms", value, value, value)})
        for one in FRONT
        if (value := ttft.get(one.number)) is not None
    ]
    for first in ([], found[:2]):
        assert {1, 5, 7} <= {member.number for member in likely_front(found, objectives, 5, first)}
