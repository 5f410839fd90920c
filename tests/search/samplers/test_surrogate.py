from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import optuna
import pytest

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.metric import METRICS
from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.recipe import Recipe
from olivine.search.config.constraints import parse_constraint
from olivine.search.config.space import Space, parse_space
from olivine.search.pareto import hypervolume
from olivine.search.records import TrialRecord
from olivine.search.samplers.proposer import Proposer
from olivine.search.samplers.random_choices import RandomSuggester, chance_choices
from olivine.search.samplers.surrogate import LATE, SurrogateSelector, posterior
from olivine.search.samplers.surrogate_proposer import SurrogateProposer

OBJECTIVES = ("tpot_ms", "kl_divergence")
SPACE = parse_space(
    {
        "precision": ["int8", "int4"],
        "block_size": [16, 32, 64, 128, 256],
        "lm_head": ["same", "fp32"],
        "accuracy_level": [0, 1, 4],
    },
    LANGUAGE,
)

DISTRIBUTIONS = {d.axis.name: optuna.distributions.CategoricalDistribution(d.values) for d in SPACE.domains}


def truth(choice: Mapping[str, Scalar]) -> dict[str, float]:
    """Small blocks cost time and save quality; any accuracy level but 4 is slow, which no cost model here knows."""
    bits, block = {"int4": 4, "int8": 8}[str(choice["precision"])], float(choice["block_size"])
    head = 1.5 if choice["lm_head"] == "fp32" else 0.0
    slow = 1.0 if choice["accuracy_level"] == 4 else 3.0
    return {
        "tpot_ms": slow * (bits / 2 + head + 16 / block),
        "kl_divergence": 4.0**-bits * block * (0.8 if head else 1),
    }


class FakeCostModel:
    """Right about everything but the accuracy level; and twice too high in everything."""

    def predict(self, recipe: Recipe) -> dict[str, float]:
        params = {k: v for step in recipe.to_json() for k, v in step["params"].items()}
        head = {0: "fp32"}.get(params["lm_head_bits"], "same")
        choice: dict[str, Scalar] = {
            "precision": f"int{params['bits']}",
            "block_size": params["block_size"],
            "lm_head": head,
            "accuracy_level": 4,
        }
        return {name: 2 * value for name, value in truth(choice).items()}


def selector(*constraints: str) -> SurrogateSelector:
    return SurrogateSelector(FakeCostModel(), OBJECTIVES, tuple(parse_constraint(text) for text in constraints))


def record(number: int, choice: Mapping[str, Scalar]) -> TrialRecord:
    metrics = {name: Measurement.exact(name, METRICS[name].unit, value) for name, value in truth(choice).items()}
    recipe = LANGUAGE.compose(choice)
    return TrialRecord(number, "complete", "", dict(choice), recipe, recipe.key, metrics=metrics)


def run(trials: int, seed: int = 0) -> list[TrialRecord]:
    """A study of synthetic values, by a cost model."""
    study = optuna.create_study(directions=["minimize", "minimize"])
    study.tell(study.ask(), [9.0, 9.0])
    records: list[TrialRecord] = []
    proposer = SurrogateProposer(Proposer(SPACE, "tpe", seed, 8), selector(), records)
    for number in range(1, trials + 1):
        proposal = proposer.propose(study, number, {r.recipe_key for r in records})
        assert proposal is not None
        records.append(record(number, proposal.choice))
        frozen = optuna.trial.create_trial(
            params=dict(proposal.params),
            distributions={
                name: optuna.distributions.CategoricalDistribution(
                    next(d.values for d in SPACE.domains if d.axis.name == name)
                )
                for name in proposal.params
            },
            values=[records[-1].value(name) for name in OBJECTIVES],
        )
        study.add_trial(frozen)
    return records


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def volume(records: list[TrialRecord]) -> float:
    return hypervolume([[r.value(name) for name in OBJECTIVES] for r in records], [15.0, 1.0])


def test_ten_guided_trials_hold_what_sixty_candidates_have() -> None:
    everything = [record(i, choice) for i, choice in enumerate(SPACE.enumerate() or ())]
    assert len(everything) == 60
    assert volume(run(10)) > 0.93 * volume(everything)


def test_corners_that_turned_out_slow_are_left_alone() -> None:
    """The cost model takes all accuracy levels to be equal: trials teach that two of three are slow."""
    levels = [r.params["accuracy_level"] for r in run(14)]
    assert levels.count(4) >= 8


def test_the_same_seed_and_history_give_the_same_sequence() -> None:
    assert [r.recipe_key for r in run(8)] == [r.recipe_key for r in run(8)]


def test_no_candidate_comes_twice_and_the_space_ends() -> None:
    keys = [r.recipe_key for r in run(60)]
    assert len(set(keys)) == 60


def test_what_should_break_a_constraint_is_no_gain() -> None:
    pool = list(SPACE.enumerate() or ())
    best = selector("kl_divergence <= 0.002").best(pool, [], seed=0)
    assert best is not None
    assert pool[best]["precision"] == "int8"
    assert selector("kl_divergence <= 1e-9").best(pool, [], seed=0) is None


def test_the_posterior_finds_a_constant_offset() -> None:
    rng = np.random.default_rng(0)
    features = np.column_stack([np.ones(200), rng.normal(size=200)])
    residuals = 0.4 - 0.1 * features[:, 1] + 0.01 * rng.normal(size=200)
    weights, noise = posterior(features, residuals, 0, rng)
    assert weights == pytest.approx([0.4, -0.1], abs=0.01)
    assert noise == pytest.approx(0.01, rel=0.5)


@pytest.mark.parametrize(("effect", "width"), [(0.02, 0.05), (0.9, 0.8)])
def test_trials_say_how_far_the_cost_model_is_to_be_trusted(effect: float, width: float) -> None:
    """What no trial has is as uncertain as what trials have turned out to be: here a value of an axis."""
    rng = np.random.default_rng(0)
    shown = np.arange(60) % 6
    one_of = np.eye(7)[shown]
    features = np.column_stack([np.ones(60), rng.normal(size=60), one_of])
    residuals = one_of @ (effect * np.array([1, -1, 1, -1, 1, -1, 0])) + 0.01 * rng.normal(size=60)
    unseen = [posterior(features, residuals, 7, np.random.default_rng(i))[0][-1] for i in range(300)]
    assert np.std(unseen) == pytest.approx(width, rel=0.2)


def test_late_draws_give_each_candidate_its_own_luck() -> None:
    """What predictions and axes explain is the same for twins; from some trials on each of them has luck of its own."""
    everything = [record(i, choice) for i, choice in enumerate(SPACE.enumerate() or ())]
    twins = [everything[-1].params] * 2
    early, late = (
        selector().draw("tpot_ms", twins, everything[:count], np.random.default_rng(0)) for count in (LATE - 1, LATE)
    )
    assert early[0] == early[1]
    assert late[0] != late[1]


def test_without_trials_the_posterior_is_the_prior() -> None:
    draws = [posterior(np.empty((0, 2)), np.empty(0), 0, np.random.default_rng(i))[0] for i in range(400)]
    assert np.std(draws, axis=0) == pytest.approx([0.5, 0.3], rel=0.15)


def test_lots_keep_to_what_is_wanted_and_possible() -> None:
    import random

    lots = RandomSuggester(random.Random(0), {"a": 3, "b": 7})
    assert lots.suggest_categorical("a", (1, 2, 3)) == 3
    assert lots.suggest_categorical("b", (1, 2)) in (1, 2)
    stepped = {round(lots.suggest_float("c", 0.1, 0.7, step=0.15), 9) for _ in range(100)}
    assert stepped == {0.1, 0.25, 0.4, 0.55, 0.7}


def test_chance_reaches_every_value() -> None:
    drawn = list(chance_choices(SPACE, 200, seed=0))
    assert {choice["block_size"] for choice in drawn} == {16, 32, 64, 128, 256}
    assert isinstance(SPACE, Space)
