"""The contract of samplers: every name that a config may give joins by itself."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import optuna
import pytest
from made_up_study import MadeUpStudy, make_made_up_proposer

from olivine.passes.catalog import LANGUAGE
from olivine.passes.kernel import Kernel
from olivine.search.config.load import parse_config
from olivine.search.config.sections import SamplerConfig, StudyConfig
from olivine.search.samplers.exhaustive import count_candidates
from olivine.search.samplers.masks import NO_MASKS, Masks

SAMPLERS = get_args(SamplerConfig.model_fields["name"].annotation)
#: 2 x 4 x 2 x 3 = 48 distinct candidates.
SPACE = {
    "precision": ["int8", "int4"],
    "block_size": [16, 32, 64, 128],
    "lm_head": ["same", "fp32"],
    "fusion_level": ["none", "qkv", "full"],
    "threads": 1,
}
#: 2 x 4 = 8 candidates, for GP: each of its fits takes seconds.
FEW = {"precision": ["int8", "int4"], "threads": {"low": 1, "high": 4}}
MASKS = Masks({Kernel(8, block, 4, "float"): "slow" for block in (16, 32, 64)})


def config_of(sampler: str, seed: int = 3, startup_trials: int = 6) -> StudyConfig:
    raw: dict[str, Any] = {
        "model": "m",
        "space": FEW if sampler == "gp" else SPACE,
        "sampler": {"name": sampler, "startup_trials": startup_trials},
        "seed": seed,
        "stop": {"trials": 30},
    }
    return parse_config(raw, "made-up.yaml")


def begin(config: StudyConfig, storage: Path | None = None) -> MadeUpStudy:
    url = None if storage is None else f"sqlite:///{storage}"
    return MadeUpStudy(config.search_space(), LANGUAGE.compose, config.objectives, url)


def run(config: StudyConfig, study: MadeUpStudy, trials: int, masks: Masks = NO_MASKS) -> list[str]:
    return study.run(make_made_up_proposer(config, study.records, masks), trials)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_candidate_of_the_space_is_proposed_once_and_then_none(sampler: str) -> None:
    config = config_of(sampler)
    study = begin(config)
    keys = run(config, study, 60)
    assert len(keys) == len(set(keys)) == count_candidates(config.search_space())
    assert all(config.search_space().contains(record.params) for record in study.records[1:])


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "gp"])
def test_masked_candidates_are_never_proposed(sampler: str) -> None:
    config = config_of(sampler)
    study = begin(config)
    keys = run(config, study, 60, MASKS)
    assert len(set(keys)) == len(keys) == count_candidates(config.search_space(), masks=MASKS) == 48 - 3 * 2 * 3
    assert all(MASKS.reason(record.recipe) is None for record in study.records)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_seed_and_history_alone_decide_a_proposal(sampler: str) -> None:
    config = config_of(sampler, seed=5)
    study = begin(config)
    proposer = make_made_up_proposer(config, study.records)
    study.run(proposer, 6)
    again = make_made_up_proposer(config, study.records)
    first, second = study.propose(proposer), study.propose(again)
    assert first is not None
    assert first == second == study.propose(proposer)


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "exhaustive"])
def test_another_seed_gives_another_sequence(sampler: str) -> None:
    configs = [config_of(sampler, seed) for seed in (1, 2)]
    first, second = (run(config, begin(config), 7) for config in configs)
    assert first != second


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_resumed_study_goes_on_with_the_same_sequence(sampler: str, tmp_path: Path) -> None:
    config = config_of(sampler, seed=7)
    whole = run(config, begin(config), 8)
    study = begin(config, tmp_path / "study.db")
    assert run(config, study, 5) + run(config, study.reopened(), 3) == whole


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_proposing_leaves_no_trace_in_the_storage(sampler: str, tmp_path: Path) -> None:
    config = config_of(sampler, startup_trials=4)
    database = tmp_path / "study.db"
    study = begin(config, database)
    run(config, study, 6)
    before = database.read_bytes()
    study.propose(make_made_up_proposer(config, study.records))
    assert database.read_bytes() == before
