"""Windows drop a candidate, with a reason, or let it pass; an audit scores it on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from study_folder import OBJECTIVES

from olivine.evaluators.quality.text_quality import WindowSums
from olivine.search.config.constraints import parse_constraint
from olivine.search.study.trials.pruning import PruningRules

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
    reason = PruningRules((LIMIT,), OBJECTIVES).pruner(NEVER)(sums(1.5))
    assert reason is not None
    assert reason.startswith("perplexity_ratio <= 1.2 is surely broken")
    assert "after 6 windows" in reason


def test_windows_end_early_where_they_have_no_more_to_tell() -> None:
    assert PruningRules((LIMIT,), OBJECTIVES).pruner(NEVER)(sums(1.02)) is None, "perplexity is an objective"
    pruner = PruningRules((LIMIT,), BY_SIZE).pruner(NEVER)
    assert "perplexity_ratio <= 1.2 surely kept" in str(pruner(sums(1.02)))
    assert pruner.dropped is None
    bits = parse_constraint("bits_per_byte <= 2")
    assert PruningRules((LIMIT, bits), BY_SIZE).pruner(NEVER)(sums(1.02)) is None, "bits per byte has no bound to go by"


def test_the_audited_are_scored_on_and_their_reason_is_kept() -> None:
    pruner = PruningRules((LIMIT,), OBJECTIVES, audit=0.1).pruner(ALWAYS)
    assert pruner(sums(1.5)) is None
    assert pruner.dropped is None
    assert "surely broken" in str(pruner.broken)
    assert pruner(sums(1.0)) is None, "what was said once stays said"
    assert "surely broken" in str(pruner.broken)


def test_the_audited_are_a_share_of_the_recipes() -> None:
    rules = PruningRules((LIMIT,), OBJECTIVES, audit=0.25)
    drawn = np.random.default_rng(0).integers(0, 16**8, 2000)
    assert 0.2 < np.mean([rules.pruner(f"{key:08x}").audited for key in drawn]) < 0.3


@pytest.mark.parametrize("truth", [1.19, 1.2])
def test_wrong_stops_stay_below_the_nominal_rate(truth: float) -> None:
    """A candidate on or inside the limit, looked at after every window of a long text."""
    rules = PruningRules((LIMIT,), OBJECTIVES)
    wrong = 0
    for seed in range(400):
        everything = sums(truth, 40, noise=0.05, seed=seed)
        pruner = rules.pruner(NEVER)
        wrong += any(pruner(first(everything, n)) for n in range(3, 41))
    assert wrong / 400 <= 0.05
