"""The recipes that each sampler proposes are those that olivine 0.1.0 proposed for the same YAML and seed."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import yaml
from made_up_study import MadeUpStudy

from olivine.evaluators.kernels.times import KernelTimes, Product
from olivine.passes.catalog import GRAPH, LANGUAGE
from olivine.passes.kernel import DYNAMIC_INT8, FLOAT, Kernel
from olivine.passes.quantize.dynamic import REDUCED_TOP, TOP
from olivine.passes.quantize.layer_loss import LayerLoss
from olivine.search.config.load import parse_config
from olivine.search.samplers.factory import make_proposer
from olivine.search.samplers.kernel_masks import KernelMasks
from olivine.search.workloads.graph_study import GraphStudyRunner

SEQUENCES = Path(__file__).with_name("sequences-0.1.0.json")
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


def of_file(name: str, **space: Any) -> dict[str, Any]:
    """A study of configs/, with more of its space set: what depends on the machine's processor."""
    raw = yaml.safe_load((Path(__file__).parents[3] / "configs" / name).read_text())
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
    "configs/demo.yaml": of_file("demo.yaml", threads=2, reduce_range=False),
    "configs/minilm.yaml": of_file("minilm.yaml", threads=2),
}

#: One step over the whole range of a block, in nats; layers differ, and learned codes lose less.
PATHS = ("layers.0/qkv_proj", "layers.0/down_proj", "layers.1/qkv_proj", "layers.1/down_proj", "lm_head")
LOSSES = {
    path: LayerLoss(
        path,
        64,
        32 * (index + 1),
        {
            f"{size}/{shape}/{how}": (index + 1)
            * size
            * {"asym": 1.0, "sym": 1.3}[shape]
            * {"alone": 1.0}.get(how, 0.6)
            for size in (16, 32, 64, 128, 256)
            for shape in ("asym", "sym")
            for how in ("alone", "learned")
        },
        {str(TOP): 0.5, str(REDUCED_TOP): 2.0, f"{TOP}/smooth": 0.3, f"{REDUCED_TOP}/smooth": 1.2},
    )
    for index, path in enumerate(PATHS)
}
KERNELS = [FLOAT, DYNAMIC_INT8] + [
    Kernel(bits, block, level, "float") for bits in (4, 8) for block in (16, 32, 64, 128, 256) for level in (0, 4)
]
TIMES = KernelTimes(
    {
        Product(kernel, loss.k, loss.n, tokens): (
            1e-5 * loss.k * loss.n * tokens * ((kernel.bits or 32) / 8 + 4 / (kernel.block_size or 8))
        )
        * (1.0 if kernel.accuracy_level == 4 else 1.5)
        for kernel in KERNELS
        for loss in LOSSES.values()
        for tokens in (1, 128)
    },
    threads=1,
    runtime="made up",
)
MASKS = KernelMasks({Kernel(4, 16, 0, "float"): "slow", Kernel(8, 16, 4, "float"): "slow"}, times=TIMES)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def sequence(raw: dict[str, Any]) -> list[str]:
    """Keys of the recipes that a study proposes, in order."""
    config = parse_config(raw, "made-up.yaml")
    of_graph = "inputs" in raw
    composing = GRAPH.compose if of_graph else LANGUAGE.compose
    study = MadeUpStudy(config.search_space(), composing, config.objectives)
    for choice in config.enqueue:
        study.enqueue(choice)
    progress = SimpleNamespace(note=lambda text: None, phase_started=lambda name: None)
    if of_graph:
        proposer: Any = GraphStudyRunner._proposer(SimpleNamespace(config=config))  # type: ignore[arg-type]
    else:
        objective = SimpleNamespace(forecast=lambda recipe: LOSSES)
        search = SimpleNamespace(
            config=config, masks=MASKS, records=study.records, objective=objective, progress=progress, watcher=progress
        )
        proposer = make_proposer(search)  # type: ignore[arg-type]
    return study.run(proposer, config.stop.trials)


@pytest.mark.parametrize("name", STUDIES)
def test_the_same_yaml_and_seed_propose_the_same_recipes(name: str) -> None:
    assert sequence(STUDIES[name]) == json.loads(SEQUENCES.read_text())[name]
