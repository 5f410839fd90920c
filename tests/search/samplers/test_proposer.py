"""Proposals of Optuna's samplers beyond the contract: ranges, lost trials, learning."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping

import optuna
import pytest
from optuna.samplers import PartialFixedSampler, RandomSampler
from optuna.trial import TrialState

from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.kernel import Kernel
from olivine.search.config.space import Space, parse_space
from olivine.search.samplers.masks import Masks
from olivine.search.samplers.proposer import Proposal, Proposer

SAMPLERS = ("tpe", "random", "nsga2", "nsga3", "gp", "exhaustive")
#: 2 x 4 x 2 x 3 = 48 distinct candidates.
SPACE = parse_space(
    {
        "precision": ["int8", "int4"],
        "block_size": [16, 32, 64, 128],
        "lm_head": ["same", "fp32"],
        "fusion_level": ["none", "qkv", "full"],
    },
    LANGUAGE,
)
#: 2 x 4 = 8 candidates, for GP: each of its fits takes seconds.
RANGE = parse_space({"precision": ["int8", "int4"], "threads": {"low": 1, "high": 4}}, LANGUAGE)


def space_for(sampler: str) -> Space:
    return RANGE if sampler == "gp" else SPACE


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def values(choice: Mapping[str, Scalar]) -> list[float]:
    """Two objectives that pull apart, with a term of every axis."""
    bits = {"int4": 4.0, "int8": 8.0}.get(str(choice["precision"]), 32.0)
    head = 1.0 if choice.get("lm_head") == "fp32" else 0.0
    fusion = ("none", "qkv", "full").index(str(choice["fusion_level"]))
    block = float(choice.get("block_size", 32))
    return [bits + 3 * head - fusion + 16 / block, 10 / bits + block / 256 - head / 2]


def start(storage: str | None = None) -> optuna.Study:
    study = optuna.create_study(
        directions=["minimize", "minimize"], storage=storage, study_name="s", load_if_exists=True
    )
    if not study.trials:
        study.tell(study.ask(), [32.0, 1.0])  # trial 0: the base
    return study


def tell(study: optuna.Study, space: Space, proposal: Proposal) -> None:
    """As a study does: a violated constraint now and then, or a failed build."""
    study.sampler = PartialFixedSampler(dict(proposal.params), RandomSampler(seed=0))
    trial = study.ask()
    space.suggest(trial)
    for name, value in proposal.sampler_attrs.items():
        study._storage.set_trial_system_attr(trial._trial_id, name, value)
    trial.set_user_attr("recipe_key", LANGUAGE.compose(proposal.choice).key)
    failed = proposal.choice.get("block_size") == 128 and proposal.choice["precision"] == "int8"
    trial.set_constraint("builds and runs", 1.0 if failed else 0.0)
    if failed:
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, values(proposal.choice))


def measured(study: optuna.Study) -> set[str]:
    return {str(trial.user_attrs["recipe_key"]) for trial in study.trials[1:]}


def simulate(proposer: Proposer, study: optuna.Study, trials: int) -> list[str]:
    """Keys of the candidates that were proposed, in order; ends early when none is left."""
    keys: list[str] = []
    while len(keys) < trials:
        proposal = proposer.propose(study, len(study.trials), measured(study))
        if proposal is None:
            break
        keys.append(LANGUAGE.compose(proposal.choice).key)
        tell(study, proposer.space, proposal)
    return keys


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_ranges_are_exhausted_without_duplicates(sampler: str) -> None:
    proposer = Proposer(RANGE, sampler, seed=0, startup_trials=4)
    study, keys = start(), set[str]()
    for number in range(1, 9):
        proposal = proposer.propose(study, number, keys)
        assert proposal is not None
        keys.add(LANGUAGE.compose(proposal.choice).key)
    assert len(keys) == 8
    assert proposer.propose(study, 9, keys) is None


def test_an_endless_space_that_is_mostly_masked_still_gives_candidates() -> None:
    masks = Masks({Kernel(4, block, 4, "float"): "slow" for block in (16, 32, 64, 128)})
    space = parse_space(
        {"precision": "mixed", "block_size": [16, 32, 64, 128, 256], "int8_share": {"low": 0.1, "high": 0.9}}, LANGUAGE
    )
    proposer = Proposer(space, "random", seed=0, startup_trials=4, masks=masks)
    found = [proposer.propose(start(), number, ()) for number in range(1, 40)]
    assert {proposal and proposal.choice["block_size"] for proposal in found} == {256}
    assert {tuple(proposal.params) for proposal in found if proposal} == {("block_size", "int8_share")}


def test_params_hold_searched_axes_that_apply() -> None:
    space = parse_space({"provider": "cpu", "precision": ["fp32", "int4"], "block_size": [32, 64]}, LANGUAGE)
    for number in range(1, 20):
        proposal = Proposer(space, "random", 0, 4).propose(start(), number, ())
        assert proposal is not None
        expected = {"precision"} if proposal.choice["precision"] == "fp32" else {"precision", "block_size"}
        assert set(proposal.params) == expected


def test_an_empty_history_and_a_lost_trial_are_no_trouble() -> None:
    study = start()
    study.tell(study.ask(), state=TrialState.FAIL)
    study.ask()  # another process is still running this one
    for sampler in SAMPLERS:
        assert Proposer(space_for(sampler), sampler, 0, 4).propose(study, 3, set()) is not None


def test_tpe_learns_to_stay_away_from_what_does_not_build() -> None:
    """8 of 48 candidates fail; after the random start TPE meets fewer of them than chance would."""
    study = start()
    simulate(Proposer(SPACE, "tpe", 0, 8), study, 24)
    later = study.trials[9:]
    assert sum(trial.state == TrialState.PRUNED for trial in later) <= 2
