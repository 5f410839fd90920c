from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olivine.evaluators.metric import METRICS
from olivine.passes.errors import UsageError
from olivine.search.config.constraints import Constraint, contradictions, parse_constraint


@pytest.mark.parametrize(
    ("text", "metric", "relation", "bound"),
    [
        ("perplexity_ratio <= 1.05", "perplexity_ratio", "<=", 1.05),
        ("perplexity_ratio<=1.05", "perplexity_ratio", "<=", 1.05),
        ("model_bytes <= 250MB", "model_bytes", "<=", 250e6),
        ("model_bytes <= 250 mb", "model_bytes", "<=", 250e6),
        ("peak_rss_bytes <= 1.5GiB", "peak_rss_bytes", "<=", 1.5 * 2**30),
        ("model_bytes <= 1TB", "model_bytes", "<=", 1e12),
        ("top1_agreement >= 95%", "top1_agreement", ">=", 0.95),
        ("tpot_speedup >= 2x", "tpot_speedup", ">=", 2.0),
        ("ttft_ms <= 0.5s", "ttft_ms", "<=", 500.0),
        ("kl_divergence <= 1e-2", "kl_divergence", "<=", 0.01),
        ("kl_divergence <= .05", "kl_divergence", "<=", 0.05),
    ],
)
def test_constraints_are_read_in_the_metrics_own_unit(text: str, metric: str, relation: str, bound: float) -> None:
    found = parse_constraint(text)
    assert (found.metric, found.relation) == (metric, relation)
    assert found.bound == pytest.approx(bound)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no constraint; write it as"),
        ("perplexity_ratio", "is no constraint"),
        ("1.05 >= perplexity_ratio", "is no constraint"),
        ("perplexity <= 1.2.3", "is no constraint"),
        ("perplexity <= -", "is no constraint"),
        ("perplexity <= 5 or less", "is no constraint"),
        ("perplexity_ratio < 1.05", r"'<' in .* is no relation\. Did you mean '<='\?"),
        ("perplexity_ratio ≤ 1.05", r"is no relation\. Did you mean '<='\?"),
        ("decode_tok_s > 5", r"is no relation\. Did you mean '>='\?"),
        ("tpot_ms == 5", "is no relation"),
        ("perplexty <= 5", r"unknown metric 'perplexty' in .*\. Did you mean 'perplexity'\?"),
        ("tpot_ms <= 5MB", r"unknown unit 'MB' in 'tpot_ms <= 5MB'\. Did you mean 'ms'\?"),
        ("perplexity <= 5ms", r"unknown unit 'ms' in .*\. Available: the number alone\."),
        ("top1_agreement >= 95", "can never hold: top1_agreement is at most 1"),
        ("perplexity <= 0.5", "can never hold: perplexity is at least 1"),
        ("model_bytes <= -1", "can never hold: model_bytes is at least 0"),
    ],
)
def test_a_broken_constraint_says_what_fits(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_constraint(text)


@given(
    metric=st.sampled_from(sorted(METRICS)),
    relation=st.sampled_from(("<=", ">=")),
    share=st.floats(0.0, 1.0),
)
def test_printing_and_reading_is_a_round_trip(metric: str, relation: str, share: float) -> None:
    low, high = METRICS[metric].low, min(METRICS[metric].high, METRICS[metric].low + 1e9)
    bound = float(f"{low + share * (high - low):.10g}")
    text = f"{metric} {relation} {bound!r}"
    found = parse_constraint(text)
    assert found.bound == bound
    assert parse_constraint(str(found)) == found


@given(
    relation=st.sampled_from(("<=", ">=")),
    bound=st.floats(-1e6, 1e6, allow_subnormal=False),
    value=st.floats(-1e6, 1e6, allow_subnormal=False),
)
def test_a_violation_is_above_zero_exactly_where_the_constraint_does_not_hold(
    relation: str, bound: float, value: float
) -> None:
    constraint = Constraint("tpot_ms", "<=" if relation == "<=" else ">=", bound)
    assert (constraint.violation(value) > 0) == (not constraint.holds(value))


def test_a_violation_is_relative_to_the_bound() -> None:
    assert Constraint("perplexity_ratio", "<=", 1.25).violation(1.5) == pytest.approx(0.2)
    assert Constraint("decode_tok_s", ">=", 50.0).violation(40.0) == pytest.approx(0.2)
    assert Constraint("kl_divergence", "<=", 0.0).violation(0.3) == pytest.approx(0.3)


def test_constraints_that_exclude_each_other_are_named() -> None:
    above, below = parse_constraint("tpot_ms >= 8"), parse_constraint("tpot_ms <= 5")
    assert contradictions([below, above]) == ["'tpot_ms >= 8' and 'tpot_ms <= 5' can't hold together"]
    assert contradictions([parse_constraint("tpot_ms >= 5"), below, parse_constraint("ttft_ms >= 8")]) == []
