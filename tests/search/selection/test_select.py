"""Which confirmed candidate is chosen, why, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest

from olivine.evaluators.measurement import Measurement
from olivine.passes.catalog import LANGUAGE
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.load import parse_config
from olivine.search.records import TrialRecord
from olivine.search.selection.confirm import Confirmation, Member
from olivine.search.selection.dominance_probability import spread
from olivine.search.selection.select import NoCandidate, select

UNITS = {"tpot_ms": "ms", "perplexity_ratio": "ratio", "tpot_speedup": "ratio", "ttft_speedup": "ratio"}


def config(**changes: Any) -> LanguageStudyConfig:
    raw = {"model": "some/model", "space": {"precision": ["int8", "int4"]}, **changes}
    return parse_config(raw, "test.yaml")


def member(number: int, tpot_ms: float, ratio: float, speedup: float = 2.0, width: float = 0.01) -> Member:
    values = {"tpot_ms": tpot_ms, "perplexity_ratio": ratio, "tpot_speedup": speedup, "ttft_speedup": speedup}
    metrics = {n: Measurement(n, UNITS[n], v, v * (1 - width), v * (1 + width)) for n, v in values.items()}
    return Member(TrialRecord(number, "complete", "", {}, LANGUAGE.recipe([]), f"key{number}"), metrics)


FRONT = Confirmation((member(3, 10.0, 1.30), member(1, 12.0, 1.04), member(2, 20.0, 1.00)), (3, 1, 2))


def test_the_fastest_that_keeps_the_limit_is_chosen_and_the_reason_names_both() -> None:
    chosen = select(config(select={"where": ["perplexity_ratio <= 1.05"]}), FRONT)
    assert chosen.record.number == 1
    assert "least tpot_ms" in chosen.reason
    assert "2 confirmed front members that keep perplexity_ratio <= 1.05" in chosen.reason


def test_knee_and_weights() -> None:
    assert select(config(select={"by": "knee"}), FRONT).record.number == 1
    by_quality = config(select={"by": "weights", "weights": {"tpot_ms": 0.1, "perplexity_ratio": 1}})
    assert select(by_quality, FRONT).record.number == 2


def test_nothing_fits_shows_the_nearest_first() -> None:
    with pytest.raises(NoCandidate) as caught:
        select(config(select={"where": ["perplexity_ratio <= 0.9"]}), FRONT)
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["trial 2", "trial 1", "trial 3"]
    assert caught.value.exit_code == 3


def sized(number: int, tpot_ms: float, ratio: float, megabytes: float) -> Member:
    record, metrics = member(number, tpot_ms, ratio, width=0.001)
    return Member(record, {**metrics, "model_bytes": Measurement.exact("model_bytes", "bytes", megabytes * 1e6)})


def test_one_that_only_what_breaks_the_limit_beats_is_chosen_and_the_reason_says_so() -> None:
    keeps, breaks = sized(1, 10.0, 1.05, 240), sized(2, 9.0, 1.03, 300)
    confirmation = Confirmation((breaks, keeps), (2,), dominated={1: 1.0, 2: 0.0})
    chosen = select(config(select={"where": ["model_bytes <= 250MB"]}), confirmation)
    assert chosen.record.number == 1
    assert chosen.reason == (
        "Trial 1 is the only candidate on the confirmed front of those that keep model_bytes <= 250000000. It is not "
        "on the front of all candidates: what beats it in every objective breaks model_bytes <= 250000000."
    )
    assert chosen.warnings == ()
    assert select(config(), confirmation).record.number == 2


def test_one_that_another_within_the_limit_surely_beats_is_not_chosen() -> None:
    members = (sized(1, 9.0, 1.03, 300), sized(2, 10.0, 1.05, 240), sized(3, 11.0, 1.06, 230))
    where = {"where": ["model_bytes <= 250MB"], "metric": "model_bytes"}
    confirmation = Confirmation(members, (1,), dominated={1: 0.0, 2: 1.0, 3: 1.0})
    assert select(config(select=where), confirmation).record.number == 2
    with pytest.raises(NoCandidate, match="No confirmed candidate keeps perplexity_ratio"):
        select(config(constraints=["perplexity_ratio <= 1.02"], select=where), confirmation)


def test_a_choice_slower_than_the_base_says_so_with_the_cure() -> None:
    slow = Confirmation((member(1, 40.0, 1.0, speedup=0.7),), (1,))
    warnings = select(config(), slow).warnings
    assert any(
        "slower than the float base: its decode speedup is 0.7" in w and "tpot_speedup >= 1" in w for w in warnings
    )


def test_an_interval_that_crosses_a_limit_is_a_warning() -> None:
    near = Confirmation((member(1, 10.0, 1.045, width=0.02),), (1,))
    (warning,) = select(config(constraints=["perplexity_ratio <= 1.05"]), near).warnings
    assert "not over its whole interval" in warning


def test_a_gap_within_the_noise_names_the_neighbour_that_is_better_elsewhere() -> None:
    fast, near, far = member(1, 10.0, 1.04), member(2, 10.1, 1.00), member(3, 12.0, 0.99)
    (warning,) = select(config(), Confirmation((fast, near, far), (1, 2, 3))).warnings
    assert "trial 2 has tpot_ms 10.1" in warning
    assert "surely better perplexity_ratio 1 instead of 1.04" in warning
    assert "olivine export STUDY_DIR --trial 2 --to DIR" in warning


def test_a_neighbour_that_is_not_surely_better_elsewhere_is_no_matter() -> None:
    near = Confirmation((member(1, 10.0, 1.010), member(2, 10.1, 1.005)), (1, 2))
    assert not any("within the noise" in warning for warning in select(config(), near).warnings)


def test_a_member_that_failed_in_confirmation_is_named() -> None:
    confirmation = Confirmation((member(1, 10.0, 1.0),), (1,), failures=("Trial 4 ran in the search, but failed",))
    assert select(config(), confirmation).warnings == ("Trial 4 ran in the search, but failed",)


def test_a_spread_keeps_both_ends_and_never_repeats() -> None:
    records = [member(n, 1.0, 1.0)[0] for n in range(9)]
    for count in range(1, 12):
        numbers = [record.number for record in spread(records, count)]
        assert len(set(numbers)) == len(numbers) == min(count, 9)
        if count > 1:
            assert numbers[0] == 0
            assert numbers[-1] == 8
