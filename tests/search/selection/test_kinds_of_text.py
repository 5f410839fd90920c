"""Limits of quality hold on every kind of text that was scored, and a loss that grows there is warned of."""

from __future__ import annotations

import pytest

from olivine.evaluators.measurement import Measurement
from olivine.passes.catalog import LANGUAGE
from olivine.search.config.load import parse_config
from olivine.search.records import TrialRecord, on_every_text
from olivine.search.selection.confirm import Confirmation, Member, keeping
from olivine.search.selection.select import NoCandidate, select

CONFIG = parse_config(
    {
        "model": "some/model",
        "space": {"precision": ["int8", "int4"]},
        "select": {"where": ["perplexity_ratio <= 1.05"]},
    },
    "test.yaml",
)


def member(
    number: int, tpot_ms: float, ratios: dict[str, float], algorithm: str = "rtn", width: float = 0.002
) -> Member:
    values = {"tpot_ms": tpot_ms} | {f"perplexity_ratio{text}": ratio for text, ratio in ratios.items()}
    metrics = {n: Measurement(n, "", v, v * (1 - width), v * (1 + width)) for n, v in values.items()}
    recipe = LANGUAGE.compose({"precision": "int4", "algorithm": algorithm})
    return Member(TrialRecord(number, "complete", "", {}, recipe, f"key{number}"), metrics)


FAST = member(1, 10.0, {"": 1.03, ".books": 1.08})
SLOW = member(2, 20.0, {"": 1.02, ".books": 1.04})


def test_a_metric_is_found_on_every_text_its_own_first() -> None:
    assert [m.value for m in on_every_text(FAST.metrics, "perplexity_ratio")] == [1.03, 1.08]
    assert [m.value for m in on_every_text(FAST.metrics, "tpot_ms")] == [10.0]
    assert on_every_text(FAST.metrics, "kl_divergence") == []


def test_the_limit_of_the_selection_holds_on_every_kind_of_text() -> None:
    assert select(CONFIG, Confirmation((FAST, SLOW), (1, 2))).record.number == 2


def test_constraints_of_the_study_hold_there_too() -> None:
    limits = parse_config(
        {"model": "m", "space": {"precision": ["int8", "int4"]}, "constraints": ["perplexity_ratio <= 1.05"]}, "x"
    ).parsed_constraints()
    assert keeping([FAST, SLOW], limits) == [SLOW]


def test_a_miss_on_another_text_is_named_with_the_text() -> None:
    with pytest.raises(NoCandidate, match=r"trial 1: perplexity_ratio on books 1\.08 \(asked: <= 1\.05\)"):
        select(CONFIG, Confirmation((FAST,), (1,)))


def test_a_limit_that_may_break_on_another_text_is_warned_of_by_its_name() -> None:
    near = member(3, 9.0, {"": 1.02, ".books": 1.049})
    (warning,) = [w for w in select(CONFIG, Confirmation((near,), (3,))).warnings if "whole interval" in w]
    assert warning.startswith("perplexity_ratio <= 1.05 holds on books for the estimate")


@pytest.mark.parametrize(
    ("algorithm", "cure"), [("gptq", "add a text of the kind"), ("rtn", "Name the kind of text that it will meet")]
)
def test_a_loss_that_is_larger_elsewhere_is_warned_of_with_its_cure(algorithm: str, cure: str) -> None:
    learned = member(4, 9.0, {"": 1.02, ".books": 1.04}, algorithm)
    (warning,) = [w for w in select(CONFIG, Confirmation((learned,), (4,))).warnings if "loses more" in w]
    assert warning.startswith("It loses more on books than on the study's own text: its perplexity ratio is 1.04,")
    assert cure in warning


@pytest.mark.parametrize("books", [1.021, 1.01])
def test_a_loss_within_the_intervals_or_smaller_elsewhere_is_no_warning(books: float) -> None:
    alike = member(5, 9.0, {"": 1.02, ".books": books})
    assert not [w for w in select(CONFIG, Confirmation((alike,), (5,))).warnings if "loses more" in w]
