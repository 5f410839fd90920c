"""The recipes that each sampler proposes are those that olivine 0.1.0 proposed for the same YAML and seed."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from made_up_study import KERNEL_TIMES, MadeUpStudy, make_made_up_proposer

from olivine.passes.kernel import Kernel
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.load import parse_config
from olivine.search.samplers.masks import NO_MASKS, Masks

SEQUENCES = Path(__file__).with_name("sequences-0.1.0.json")
#: configs/demo.yaml as version 0.1.0 had it.
DEMO = Path(__file__).with_name("demo-0.1.0.yaml")
WIDE = {
    "precision": ["fp32", "int8", "int4"],
    "block_size": [16, 32, 64, 128],
    "lm_head": ["same", "fp32"],
    "fusion_level": ["none", "qkv", "full"],
    "threads": {"low": 1, "high": 4},
}
LEARNING = {
    "precision": ["int4", "mixed"],
    "algorithm": ["rtn", "gptq"],
    "block_size": [16, 32, 64, 128],
    "int8_share": {"low": 0.0, "high": 1.0, "step": 0.25},
    "accuracy_level": [0, 4],
    "lm_head": ["same", "int8"],
    "threads": 1,
}
GRAPH_SPACE = {
    "fusion_level": ["none", "basic", "full"],
    "precision": ["fp32", "int8", "int4"],
    "algorithm": ["rtn", "k_quant"],
    "block_size": [16, 32, 64, 128],
    "threads": {"low": 1, "high": 4},
}


def language(space: Mapping[str, Any], sampler: str, trials: int, seed: int = 0, **more: Any) -> dict[str, Any]:
    sampling = {"name": sampler, "startup_trials": 5}
    return {"model": "m", "space": space, "sampler": sampling, "stop": {"trials": trials}, "seed": seed, **more}


def graph(sampler: str, trials: int, seed: int = 0) -> dict[str, Any]:
    return language(GRAPH_SPACE, sampler, trials, seed, inputs={"shapes": {"s": {"sequence": 16}}})


def of_file(path: Path, **space: Any) -> dict[str, Any]:
    """The study of a file, with more of its space set: what depends on the machine's processor."""
    raw = yaml.safe_load(path.read_text())
    return {**raw, "space": {**raw["space"], **space}, "stop": {"trials": 30}}


STUDIES: dict[str, dict[str, Any]] = {
    "tpe": language(WIDE, "tpe", 30),
    "tpe, another seed": language(WIDE, "tpe", 15, seed=7),
    "random": language(WIDE, "random", 15),
    "nsga2": language(WIDE, "nsga2", 20),
    "nsga3": language(WIDE, "nsga3", 20),
    "gp": language(WIDE, "gp", 8),
    "exhaustive": language(WIDE, "exhaustive", 20),
    "auto, a small space": language({"precision": ["int8", "int4"], "block_size": [16, 32], "threads": 1}, "auto", 10),
    "auto, a wide space": language(WIDE, "auto", 12),
    "auto, a wide space that learns from text": language(LEARNING, "auto", 20),
    "auto, a constraint that no cost model knows": language(LEARNING, "auto", 12, constraints=["load_ms <= 9s"]),
    "forecast": language(LEARNING, "forecast", 25, seed=3),
    "forecast, a constraint": language(LEARNING, "forecast", 15, constraints=["perplexity_ratio <= 1.005"]),
    "graph: tpe": graph("tpe", 30),
    "graph: random": graph("random", 12, seed=5),
    "graph: nsga2": graph("nsga2", 20),
    "graph: auto": graph("auto", 12),
    "configs/demo.yaml": of_file(DEMO, threads=2, reduce_range=False),
    "configs/minilm.yaml": of_file(Path(__file__).parents[3] / "configs" / "minilm.yaml", threads=2),
}

MASKS = Masks({Kernel(4, 16, 0, "float"): "slow", Kernel(8, 16, 4, "float"): "slow"}, times=KERNEL_TIMES)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def sequence(raw: dict[str, Any]) -> list[str]:
    """Keys of the recipes that a study proposes, in order."""
    config = parse_config(raw, "made-up.yaml")
    study = MadeUpStudy(config.search_space(), config.catalog.compose, config.objectives)
    for choice in config.enqueue:
        study.enqueue(choice)
    masks = MASKS if isinstance(config, LanguageStudyConfig) else NO_MASKS
    proposer = make_made_up_proposer(config, study.records, masks)
    return study.run(proposer, config.stop.trials)


@pytest.mark.parametrize("name", STUDIES)
def test_the_same_yaml_and_seed_propose_the_same_recipes(name: str) -> None:
    assert sequence(STUDIES[name]) == json.loads(SEQUENCES.read_text())[name]
