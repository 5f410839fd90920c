"""Whom the ladder drops, with which reason, whom it lets pass, and what an audit says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from study_folder import OBJECTIVES, records

from olivine.evaluators.quality.text_quality import WindowSums
from olivine.search.config.constraints import parse_constraint
from olivine.search.report.section_pruning import ladder as shown
from olivine.search.report.study_view import StudyView
from olivine.search.study.pruning import WINDOWS, PruningRules, audited, rung

NEVER, ALWAYS = "f" * 12, "0" * 12
LIMIT = parse_constraint("perplexity_ratio <= 1.2")
BY_SIZE = ("tpot_ms", "model_bytes")


def sums(ratio: float, windows: int = 6, noise: float = 0.004, seed: int = 0) -> WindowSums:
    """Windows of 100 tokens of a candidate whose perplexity is ``ratio`` times the base's."""
    tokens = np.full(windows, 100.0)
    base = np.full(windows, 300.0)
    worse = np.log(ratio) + np.random.default_rng(seed).normal(0, noise, windows)
    return WindowSums(base + 100 * worse, base, tokens * worse**2, tokens * 0.9, tokens, tokens * 4, 20.0)


def first(found: WindowSums, n: int) -> WindowSums:
    """Its first windows."""
    parts = {name: getattr(found, name)[:n] for name in ("nll", "base_nll", "kl", "agree", "tokens", "text_bytes")}
    return replace(found, **parts)


def test_a_constraint_that_is_surely_broken_drops_and_says_after_how_many_windows() -> None:
    reason = PruningRules((LIMIT,), OBJECTIVES).gate(NEVER)(sums(1.5))
    assert reason is not None
    assert reason.startswith("perplexity_ratio <= 1.2 is surely broken")
    assert "after 6 windows" in reason


def test_windows_end_early_where_they_have_no_more_to_tell() -> None:
    assert PruningRules((LIMIT,), OBJECTIVES).gate(NEVER)(sums(1.02)) is None, "perplexity is an objective"
    gate = PruningRules((LIMIT,), BY_SIZE).gate(NEVER)
    assert "perplexity_ratio <= 1.2 surely kept" in str(gate(sums(1.02)))
    assert gate.dropped is None
    bits = parse_constraint("bits_per_byte <= 2")
    assert PruningRules((LIMIT, bits), BY_SIZE).gate(NEVER)(sums(1.02)) is None, "bits per byte has no bound to go by"


def test_the_audited_are_scored_on_and_their_reason_is_kept() -> None:
    gate = PruningRules((LIMIT,), OBJECTIVES, audit=0.1).gate(ALWAYS)
    assert gate(sums(1.5)) is None
    assert gate.dropped is None
    assert "surely broken" in str(gate.broken)
    assert gate(sums(1.0)) is None, "what was said once stays said"
    assert "surely broken" in str(gate.broken)


def test_the_audited_are_a_share_of_the_recipes() -> None:
    ladder = PruningRules((LIMIT,), OBJECTIVES, audit=0.25)
    drawn = np.random.default_rng(0).integers(0, 16**8, 2000)
    assert 0.2 < np.mean([ladder.gate(f"{key:08x}").audited for key in drawn]) < 0.3


@pytest.mark.parametrize("truth", [1.19, 1.2])
def test_wrong_stops_stay_below_the_nominal_rate(truth: float) -> None:
    """A candidate on or inside the limit, looked at after every window of a long text."""
    ladder = PruningRules((LIMIT,), OBJECTIVES)
    wrong = 0
    for seed in range(400):
        everything = sums(truth, 40, noise=0.05, seed=seed)
        gate = ladder.gate(NEVER)
        wrong += any(gate(first(everything, n)) for n in range(3, 41))
    assert wrong / 400 <= 0.05


def test_the_report_says_how_often_the_ladder_was_wrong() -> None:
    found = records()
    broken = replace(found[3], state="infeasible", constraints={str(LIMIT): 0.1, "tpot_speedup >= 1.5": -0.3})
    found[3] = replace(broken, ladder=rung(WINDOWS, "surely broken", audited=True))
    found[4] = replace(found[4], ladder=rung(WINDOWS, "surely broken", audited=True))
    found[14] = replace(found[14], ladder=rung(WINDOWS, "surely broken"))
    checked, wrong = audited(found)
    assert ([r.number for r in checked], [r.number for r in wrong]) == ([3, 4], [4])
    view = StudyView("s", "m", OBJECTIVES, (), tuple(found), (), False, {}, {})
    said = shown(view)
    assert said is not None
    assert said["sentence"].startswith("1 dropped before they were timed;")
    assert "would have dropped 2 more" in said["sentence"]
    assert said["sentence"].endswith("they were wrong with 1.")
    assert [row["audit"] for row in said["rows"]] == ["rightly", "kept the constraint after all", ""]
    assert shown(replace(view, records=tuple(records()))) is None


@pytest.mark.parametrize("other", ["tpot_speedup >= 1.5", "peak_rss_bytes <= 500000000", "children.memory"])
def test_windows_were_wrong_with_a_candidate_that_breaks_only_what_they_do_not_judge(other: str) -> None:
    constraints = {"perplexity_ratio <= 1.05": -0.01, "kl_divergence <= 0.1": -0.2, other: 0.13}
    stopped = rung(WINDOWS, "perplexity_ratio <= 1.05 is surely broken", audited=True)
    slow = replace(records()[3], state="infeasible", constraints=constraints, ladder=stopped)
    assert audited([slow]) == ([slow], [slow])
    said = shown(StudyView("s", "m", OBJECTIVES, (), (slow,), (), False, {}, {}))
    assert said is not None
    assert said["rows"][0]["audit"] == "kept the constraint after all"
    bad = replace(slow, constraints=constraints | {"kl_divergence <= 0.1": 0.2})
    assert audited([bad]) == ([bad], [])
