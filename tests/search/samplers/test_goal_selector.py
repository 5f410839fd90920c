"""Proposals for a goal: the best candidate within limits, by expectation and by the chance that it keeps them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest
from made_up_study import MadeUpStudy, make_made_up_proposer

from olivine.evaluators.measurement import Measurement
from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.recipe import Recipe
from olivine.search.config.constraints import parse_constraint
from olivine.search.config.load import parse_config
from olivine.search.config.space import parse_space
from olivine.search.records import TrialRecord
from olivine.search.samplers.goal import Goal, goal_of
from olivine.search.samplers.goal_selector import (
    FRONT_EVERY,
    GoalSelector,
    expected_improvement,
    normal_cdf,
    ratio_slope,
)
from olivine.search.samplers.surrogate import SurrogateSelector

SPACE = parse_space({"precision": ["int8", "int4"], "block_size": [16, 32, 64, 128, 256]}, LANGUAGE)
CHOICES = tuple(SPACE.enumerate() or ())
LEARNING = {"precision": ["int4", "mixed"], "algorithm": ["rtn", "gptq"], "block_size": [16, 32, 64, 128], "threads": 1}


def truth(choice: Mapping[str, Scalar]) -> dict[str, float]:
    """Small blocks cost time and save quality; a ratio grows by 0.9 of the divergence."""
    bits, block = {"int4": 4, "int8": 8}[str(choice["precision"])], float(choice["block_size"])
    divergence = 4.0**-bits * block / 4
    tpot = bits / 2 + 16 / block
    return {
        "tpot_ms": tpot,
        "decode_tok_s": 1e3 / tpot,
        "kl_divergence": divergence,
        "perplexity_ratio": 1 + 0.9 * divergence,
        "top1_agreement": 1 - 0.5 * math.sqrt(divergence),
    }


class FakeCostModel:
    """Takes everything for a third too much, but a ratio for the exponential of the divergence."""

    def predict(self, recipe: Recipe) -> dict[str, float]:
        """Metric -> predicted value."""
        params = {k: v for step in recipe.to_json() for k, v in step["params"].items()}
        found = truth({"precision": f"int{params['bits']}", "block_size": params["block_size"]})
        top1 = found.pop("top1_agreement")
        scaled = {name: value * 4 / 3 for name, value in found.items()}
        return {**scaled, "perplexity_ratio": math.exp(scaled["kl_divergence"]), "top1_agreement": top1}


def selector(metric: str, *limits: str) -> GoalSelector:
    surrogate = SurrogateSelector(FakeCostModel(), ("tpot_ms", "perplexity_ratio"), ())
    return GoalSelector(surrogate, Goal(metric, tuple(map(parse_constraint, limits))))


def record(number: int, choice: Mapping[str, Scalar], **changes: Any) -> TrialRecord:
    metrics = {name: Measurement.exact(name, "", value) for name, value in truth(choice).items()}
    recipe = LANGUAGE.compose(choice)
    return replace(TrialRecord(number, "complete", "", dict(choice), recipe, recipe.key, metrics=metrics), **changes)


def study(chosen: GoalSelector, trials: int) -> list[TrialRecord]:
    """Measure what is proposed."""
    left, records = list(CHOICES), list[TrialRecord]()
    for number in range(trials):
        index = chosen.best(left, records, number)
        assert index is not None
        records.append(record(number + 1, left.pop(index)))
    return records


@pytest.mark.parametrize("limit", ["perplexity_ratio <= 1.02", "perplexity_ratio <= 1.06", "top1_agreement >= 0.9"])
@pytest.mark.parametrize(("metric", "direction"), [("tpot_ms", 1), ("decode_tok_s", -1)])
def test_four_of_ten_candidates_find_the_best_one_within_the_limit(metric: str, direction: int, limit: str) -> None:
    kept = parse_constraint(limit)
    within = [values for values in map(truth, CHOICES) if kept.holds(values[kept.metric])]
    best = min(within, key=lambda values: direction * values[metric])
    assert 0 < len(within) < len(CHOICES)
    assert best[metric] in [r.value(metric) for r in study(selector(metric, limit), 4)]


def test_the_loss_itself_may_be_the_metric() -> None:
    found = [r.value("perplexity_ratio") for r in study(selector("perplexity_ratio", "tpot_ms <= 2.6"), 4)]
    assert min(v["perplexity_ratio"] for v in map(truth, CHOICES) if v["tpot_ms"] <= 2.6) in found


def test_the_chance_to_keep_a_limit_falls_with_the_loss_and_trials_make_it_sure() -> None:
    chosen = selector("tpot_ms", "perplexity_ratio <= 1.06")
    before = chosen.keep_probability(CHOICES, [])
    order = np.argsort([truth(choice)["perplexity_ratio"] for choice in CHOICES])
    assert before[order[:5]].min() > before[order[-2:]].max()
    after = chosen.keep_probability(CHOICES, [record(n, choice) for n, choice in enumerate(CHOICES[::2])])
    kept = np.array([truth(choice)["perplexity_ratio"] <= 1.06 for choice in CHOICES])
    assert np.abs(after - kept).max() < np.abs(before - kept).max()


def test_every_fourth_proposal_is_that_of_the_front() -> None:
    chosen = selector("tpot_ms", "perplexity_ratio <= 1.005")
    records = [record(n, choice) for n, choice in enumerate(CHOICES[: FRONT_EVERY - 1])]
    left = CHOICES[FRONT_EVERY - 1 :]
    assert chosen.best(left, records, 7) == chosen.surrogate.best(left, records, 7)


def test_what_failed_or_breaks_a_limit_is_nothing_to_improve_on() -> None:
    chosen = selector("tpot_ms", "perplexity_ratio <= 1.01")
    fast = max(CHOICES, key=lambda choice: truth(choice)["perplexity_ratio"])
    failed = record(2, CHOICES[0], state="failed", metrics={})
    assert chosen.neighbourhoods([record(1, fast)])[1:] == []
    assert chosen.best(CHOICES, [record(1, fast), failed], 0) == chosen.best(CHOICES, [record(1, fast), failed], 1)


def test_the_best_within_the_limits_has_neighbours_twice() -> None:
    chosen = selector("tpot_ms", "perplexity_ratio <= 1.01")
    records = [record(n, choice) for n, choice in enumerate(CHOICES)]
    within = [r for r in records if r.value("perplexity_ratio") <= 1.01]
    best = min(within, key=lambda r: r.value("tpot_ms"))
    assert chosen.neighbourhoods(records).count(best) == 2


def test_expected_improvement_is_that_of_many_draws() -> None:
    mean, sd = np.array([-0.3, 0.0, 0.4]), np.array([0.1, 0.5, 0.2])
    draws = mean + sd * np.random.default_rng(0).standard_normal((200_000, 3))
    expected = np.maximum(0.1 - draws, 0).mean(axis=0)
    np.testing.assert_allclose(expected_improvement(0.1, mean, sd), expected, atol=2e-3)
    assert expected_improvement(0.0, np.zeros(1), np.ones(1))[0] == pytest.approx(1 / math.sqrt(2 * math.pi))


def test_the_normal_distribution_function_has_its_known_values() -> None:
    np.testing.assert_allclose(normal_cdf(np.array([-1.959964, 0.0, 1.644854])), [0.025, 0.5, 0.95], atol=1e-6)


def test_a_slope_is_learned_from_trials_and_is_1_before() -> None:
    assert ratio_slope(np.array([]), np.array([])) == (1.0, pytest.approx(0.3), pytest.approx(0.05))
    divergences = np.linspace(0.01, 0.2, 40)
    slope, sd, noise = ratio_slope(divergences, 1 + 0.7 * divergences)
    assert slope == pytest.approx(0.7, abs=0.01)
    assert sd < 0.02
    assert noise < 0.02


@pytest.fixture
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def config(**changes: Any) -> Any:
    select = {"metric": "tpot_ms", "where": ["perplexity_ratio <= 1.05"]}
    raw = {"model": "m", "space": LEARNING, "select": select, "sampler": {"name": "forecast", "aim": "goal"}}
    return parse_config({**raw, **changes}, "goal.yaml")


def test_the_goal_is_the_metric_and_the_tightest_limits() -> None:
    more = config(constraints=["perplexity_ratio <= 1.3", "model_bytes <= 1GB"])
    limits = ("perplexity_ratio <= 1.05", "model_bytes <= 1GB")
    assert goal_of(more) == Goal("tpot_ms", tuple(map(parse_constraint, limits)))


@pytest.mark.parametrize(
    "select",
    [
        {},
        {"metric": "tpot_ms"},
        {"by": "knee", "where": ["perplexity_ratio <= 1.05"]},
        {"where": ["load_ms <= 2s"]},
    ],
)
def test_without_a_limit_or_a_metric_to_predict_the_front_is_the_goal(select: dict[str, Any]) -> None:
    assert goal_of(config(select=select)) is None


@pytest.mark.parametrize("aim", ["goal", "front", None])
def test_a_study_aims_at_what_its_config_says(aim: str | None) -> None:
    sampler = {"name": "forecast", **({} if aim is None else {"aim": aim})}
    made = config(sampler=sampler)
    run = MadeUpStudy(made.search_space(), made.catalog.compose, made.objectives)
    proposer: Any = make_made_up_proposer(made, run.records)
    assert isinstance(proposer.selector, GoalSelector) is (aim == "goal")


@pytest.mark.usefixtures("_quiet")
def test_the_same_yaml_and_seed_propose_the_same_recipes_for_a_goal() -> None:
    sequences = []
    for _ in range(2):
        run = MadeUpStudy(config().search_space(), config().catalog.compose, config().objectives)
        sequences.append(run.run(make_made_up_proposer(config(), run.records), 10))
    assert sequences[0] == sequences[1]
    assert len(set(sequences[0])) == 10
