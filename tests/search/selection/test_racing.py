"""Near-ties are timed on until they are told apart or the time is spent."""

from __future__ import annotations

import math

import numpy as np
import pytest

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.stats import Interval, pooled
from olivine.search.records import Metrics
from olivine.search.selection.racing import combined, race, undecided

OBJECTIVES = ("tpot_ms", "perplexity_ratio")
ERROR = 0.02


def measured(tpot_ms: float, rng: np.random.Generator) -> Measurement:
    seen = tpot_ms * math.exp(ERROR * rng.normal())
    ends = (seen * math.exp(sign * 1.96 * ERROR) for sign in (-1, 1))
    return Measurement("tpot_ms", "ms", seen, *ends, (seen,), {"samples": [seen]})


def member(tpot_ms: float, ratio: float, rng: np.random.Generator) -> dict[str, Measurement]:
    return {
        "tpot_ms": measured(tpot_ms, rng),
        "perplexity_ratio": Measurement("perplexity_ratio", "ratio", ratio, ratio, ratio),
    }


def run(truth: list[tuple[float, float]], seconds: float, seed: int = 0) -> tuple[list[Metrics], list[int]]:
    rng = np.random.default_rng(seed)
    members = [member(tpot, ratio, rng) for tpot, ratio in truth]
    now = [0.0]

    def measure(index: int, before: int) -> list[Measurement]:
        now[0] += 1
        return [measured(truth[index][0], rng)]

    raced = race(members, OBJECTIVES, measure, seconds, clock=lambda: now[0])
    return [each.metrics for each in raced], [each.measured for each in raced]


def test_clear_members_are_not_raced() -> None:
    assert run([(10.0, 1.2), (12.0, 1.1), (15.0, 1.3)], 50)[1] == [1, 1, 1]


def test_a_near_tie_is_raced_until_it_is_decided() -> None:
    for seed in range(3):
        members, counts = run([(10.0, 1.1), (10.2, 1.11), (20.0, 1.0)], 60, seed)
        assert undecided(members, OBJECTIVES) == []
        assert min(counts[:2]) > 1, "the rival's error counts as much as its own"
        assert counts[2] == 1
        assert members[0]["tpot_ms"].value < members[1]["tpot_ms"].value


def test_a_race_ends_with_its_time() -> None:
    _, counts = run([(10.0, 1.1), (10.0, 1.1)], 7)
    assert sum(counts) == 2 + 7
    assert max(counts) - min(counts) <= 1
    assert run([(10.0, 1.1), (10.0, 1.1)], 0)[1] == [1, 1]


def test_a_member_that_no_longer_runs_is_raced_no_more_and_keeps_what_is_known() -> None:
    rng = np.random.default_rng(0)
    members = [member(10.0, 1.1, rng), member(10.0, 1.1, rng)]
    now = [0.0]

    def measure(index: int, before: int) -> list[Measurement]:
        now[0] += 1
        return [measured(10.0, rng)] if index == 0 else []

    before = [dict(metrics) for metrics in members]
    first, second = race(members, OBJECTIVES, measure, 8, clock=lambda: now[0])
    assert first.measured >= 4
    assert second == (members[1], 1)
    assert members == before, "the race leaves its members as they were"


def test_what_is_not_latency_is_not_raced() -> None:
    rng = np.random.default_rng(0)
    members = [member(10.0, 1.0, rng), member(10.0, 1.0, rng)]
    assert race(members, ("model_bytes", "perplexity_ratio"), lambda *_: [], 9) == [(m, 1) for m in members]


def test_two_measurements_say_more_than_one_and_all_samples_are_kept() -> None:
    rng = np.random.default_rng(1)
    first, second = measured(10.0, rng), measured(10.0, rng)
    both = combined(first, second)
    assert both.samples == (*first.samples, *second.samples)
    assert both.protocol["measured_again"] == [dict(second.protocol)]
    assert math.log(both.high / both.low) == pytest.approx(math.log(first.high / first.low) / math.sqrt(2))
    assert min(first.value, second.value) < both.value < max(first.value, second.value)


def test_pooled_means_cover() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(2000):
        parts = []
        for sd in (1.0, 0.5, 2.0):
            value = rng.normal(0, sd)
            parts.append(Interval(value, value - 1.96 * sd, value + 1.96 * sd))
        found = pooled(parts)
        hits += found.low <= 0 <= found.high
    assert 0.93 <= hits / 2000 <= 0.97


def test_pooling_knows_exact_and_unbounded_intervals() -> None:
    exact, vague = Interval(2.0, 2.0, 2.0), Interval(1.0, -math.inf, math.inf)
    assert pooled([vague, exact]) == exact
    assert pooled([vague, vague]) == vague


def test_what_neighbours_do_is_not_narrowed_by_measuring_again() -> None:
    neighbours = 0.02

    def one(value: float, error: float, beside: float = neighbours) -> Measurement:
        half = 1.959964 * math.hypot(error, beside)
        ends = (value * math.exp(-half), value * math.exp(half))
        return Measurement("tpot_ms", "ms", value, *ends, (value,), {"neighbours": beside})

    found = combined(one(10.0, 0.01), one(10.0, 0.01))
    error = math.log(found.high / found.value) / 1.959964
    assert error == pytest.approx(math.hypot(0.01 / math.sqrt(2), neighbours), rel=1e-3)
    thrice = combined(combined(one(10.0, 0.01), one(10.0, 0.01, 2 * neighbours)), one(10.0, 0.01))
    error = math.log(thrice.high / thrice.value) / 1.959964
    assert error == pytest.approx(math.hypot(0.01 / math.sqrt(3), 2 * neighbours), rel=1e-3)
    precise = combined(one(10.0, 0.001), one(11.0, 0.1))
    assert precise.value == pytest.approx(10.0, rel=0.001), "weighed by what further rounds narrow"
