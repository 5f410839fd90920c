"""``olivine plan`` of a graph: sizes are those of the files that are built, and what does not fit is refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from tiny_graph import tiny_graph, tiny_plain_yaml

from olivine.passes.catalog import GRAPH
from olivine.passes.errors import UsageError
from olivine.passes.graphs.graph_size import graph_size
from olivine.passes.graphs.source import resolve_graph
from olivine.passes.pipeline import build
from olivine.passes.store.cache import Cache
from olivine.search.cli.main import main
from olivine.search.config.graph import GraphStudyConfig
from olivine.search.config.load import parse_config
from olivine.search.planning.estimate.estimator import memory_bytes
from olivine.search.planning.estimate.graph import GraphEstimator, candidate_size
from olivine.search.planning.machine_speed import MachineRates, Room
from olivine.search.planning.plan import make_plan, plan_table
from olivine.search.planning.preflight import require_room
from olivine.search.samplers.random_choices import sample_choices

RATES = MachineRates(flops=150e9, read_bytes_per_s=15e9, written_bytes_per_s=8e8)


def study(model: Path | str, **changes: Any) -> GraphStudyConfig:
    config = parse_config(tiny_plain_yaml(Path(model), **changes), "study.yaml")
    assert isinstance(config, GraphStudyConfig)
    return config


def estimator(model: Path | str, **changes: Any) -> GraphEstimator:
    config = study(model, **changes)
    source = resolve_graph(config.model, config.architecture)
    return GraphEstimator(config, source, sample_choices(config.search_space(), 200))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_graph(tmp_path / "tiny.onnx")


CHOICES: list[dict[str, Any]] = [
    {"precision": "fp32"},
    {"precision": "int8", "activations": "dynamic"},
    {"precision": "int8", "activations": "dynamic", "embedding": "int8"},
    {"precision": "int8", "activations": "dynamic", "float_down": True},
    {"precision": "int4", "block_size": 32},
]


@pytest.mark.demo
@pytest.mark.parametrize(
    ("name", "sizes"), [("all-minilm-l6-v2", {"batch": 1, "sequence": 8}), ("vit-focus", {"batch_size": 1})]
)
def test_sizes_of_the_demo_models_are_near_those_that_are_built(name: str, sizes: dict[str, int]) -> None:
    from olivine.passes.store.cache import cache_root

    source = resolve_graph(f"demo:{name}")
    size = graph_size(source, {})
    for choice in CHOICES:
        built = build(source, GRAPH.compose(choice), Cache(cache_root()), sizes=sizes).artifact
        graph = built.path / "model.onnx"
        assert candidate_size(size, GRAPH.canonical(choice)) == pytest.approx(graph.stat().st_size, rel=0.1), choice


def test_a_plan_counts_candidates_and_estimates_memory_disk_and_time(model: Path) -> None:
    plan = make_plan(study(model))
    assert (plan.candidates, plan.trials, plan.sampler) == (6, 3, "tpe")
    assert plan.fits
    assert plan.estimate is not None
    assert plan.estimate.smallest_bytes < plan.estimate.float_bytes
    assert plan.estimate.ram_bytes > 100 * plan.estimate.float_bytes  # Python, PyTorch and the libraries
    console = Console(file=io.StringIO(), width=200)
    console.print(plan_table(plan))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for words in ("one (batch 1, sequence 4); many (batch 4, sequence 8)", "memory", "disk", "time", "GFLOP/s"):
        assert words in text


def test_conditions_name_the_axes_that_decide(model: Path) -> None:
    axes = {axis.name: axis.when for axis in make_plan(study(model)).axes}
    assert axes == {
        "precision": "",
        "activations": "precision is int8",
        "block_size": "activations is float",
    }


def test_larger_shapes_more_samples_and_histograms_take_more(model: Path) -> None:
    small, shapes = estimator(model), {"huge": {"batch": 64, "sequence": 512}}
    inputs = {"shapes": shapes, "samples": 400}
    space = {"precision": "int8", "activations": "static", "calibration": ["minmax", "percentile"]}
    assert estimator(model, inputs=inputs).durations(3, RATES).trial > small.durations(3, RATES).trial
    assert small.durations(9, RATES).trial == small.durations(3, RATES).trial
    assert small.disk_bytes(9) > small.disk_bytes(3)
    few, many = (estimator(model, space=space, inputs=inputs | {"calibrate": count}) for count in (1, 100_000))
    assert memory_bytes(many) > memory_bytes(few)


def test_the_cache_limit_bounds_the_disk(model: Path) -> None:
    free, bounded = estimator(model), estimator(model, cache={"max_bytes": "1MB"})
    assert bounded.disk_bytes(10_000) < 1_100_000 < free.disk_bytes(10_000)


def test_a_graph_that_does_not_fit_is_refused_before_any_work(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require_room(study(model))
    with pytest.raises(UsageError, match=r"takes about .* of memory .*, and .* are free"):
        require_room(study(model), Room(ram_bytes=1000, disk_bytes=10**12))
    raw = tiny_plain_yaml(model, space={"precision": "int8", "activations": "static", "calibration": "percentile"})
    raw["inputs"] |= {"shapes": {"long": {"batch": 1, "sequence": 1_000_000}}, "calibrate": 100_000}
    config = tmp_path / "study.yaml"
    config.write_text(yaml.safe_dump(raw | {"space": raw["space"] | {"float_down": [False, True]}}))
    assert main(["plan", str(config)]) == 2
    assert "not enough memory" in capsys.readouterr().err
    assert main(["run", str(config), "--out", str(tmp_path / "study")]) == 2
    assert not (tmp_path / "study").exists()
