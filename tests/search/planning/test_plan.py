"""``olivine plan``: what it counts is exact, what it estimates is near what is known of the demo model."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console

from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import SourceError, UsageError
from olivine.passes.sources.model_shape import Weights, count_weights, head_is_embedding
from olivine.passes.sources.source import resolve
from olivine.search.cli.main import main
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.load import parse_config
from olivine.search.planning.estimate.language import artifact_bytes
from olivine.search.planning.machine_speed import Room
from olivine.search.planning.plan import Plan, lacks, make_plan, plan_table
from olivine.search.planning.preflight import require_room
from olivine.search.planning.presets import SearchScope, preset

USE = {"context": 200, "prompt_tokens": 100, "new_tokens": 8}
FULL_MEMORY = Room(ram_bytes=1_000_000, disk_bytes=64_000_000_000)
FULL_DISK = Room(ram_bytes=64_000_000_000, disk_bytes=1000)
SPACE: dict[str, Any] = {
    "precision": ["fp32", "int8", "int4"],
    "block_size": [32, 64],
    "algorithm": ["rtn", "k_quant"],
}


def study(model: Path | str, **more: Any) -> LanguageStudyConfig:
    return parse_config({"model": str(model), "space": SPACE, "kernel_probe": False} | more, "study.yaml")


def shown(plan: Plan) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(plan_table(plan))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_candidates_are_counted_and_conditions_named(tiny_llama: Path) -> None:
    plan = make_plan(study(tiny_llama))
    assert plan.candidates == 1 + 2 * 2 * 2
    axes = {axis.name: axis for axis in plan.axes}
    assert axes["precision"].when == ""
    assert axes["block_size"].when == "precision is int8 or int4"
    assert axes["precision"].values == "fp32, int8, int4"


def test_a_limit_of_memory_shows_what_is_predicted_and_how_many_may_fit(tiny_llama: Path) -> None:
    text = shown(make_plan(study(tiny_llama, scenario=USE, constraints=["deployed_rss_bytes <= 600MB"])))
    assert re.search(
        r"as deployed +deployed_rss_bytes predicted at [\d.]+ MB to [\d.]+ MB of at most 600 MB; right", text
    )
    assert "and may fit" not in text
    text = shown(make_plan(study(tiny_llama, scenario=USE, constraints=["deployed_rss_bytes <= 1MB"])))
    assert "0: those that need none of these kernels and may fit" in text


def test_a_condition_on_two_axes_names_both(tiny_llama: Path) -> None:
    plan = make_plan(study(tiny_llama, space=SPACE | {"symmetric": [True, False]}))
    (symmetric,) = [axis for axis in plan.axes if axis.name == "symmetric"]
    assert symmetric.when == "precision is int8 or int4 and algorithm is rtn"


@pytest.mark.parametrize(
    ("trials", "asked", "sampler"),
    [(9, "auto", "exhaustive"), (8, "auto", "tpe"), (40, "random", "random")],
)
def test_auto_is_what_the_study_would_take(tiny_llama: Path, trials: int, asked: str, sampler: str) -> None:
    plan = make_plan(study(tiny_llama, stop={"trials": trials}, sampler={"name": asked}))
    assert (plan.sampler, plan.trials) == (sampler, min(trials, 9))


def test_a_long_range_is_shown_by_its_ends(tiny_llama: Path) -> None:
    plan = make_plan(study(tiny_llama, space=SPACE | {"threads": {"low": 1, "high": 64}}))
    (threads,) = [axis for axis in plan.axes if axis.name == "threads"]
    assert threads.values == "1 .. 64 step 1"
    assert plan.candidates == 9 * 64


def test_sizes_of_the_demo_model_are_near_the_measured_ones() -> None:
    plan = make_plan(study("demo:smollm2-135m-instruct"))
    assert plan.estimate is not None
    assert plan.estimate.float_bytes == pytest.approx(657e6, rel=0.02)
    weights = count_weights(resolve("demo:smollm2-135m-instruct"))
    int4 = artifact_bytes(weights, LANGUAGE.canonical({"precision": "int4"}), 4)
    int8 = artifact_bytes(weights, LANGUAGE.canonical({"precision": "int8"}), 4)
    assert int4 == pytest.approx(203e6, rel=0.1)
    assert int8 == pytest.approx(270e6, rel=0.1)
    assert plan.estimate.ram_bytes > 2 * plan.estimate.float_bytes


def test_head_and_embedding_have_sizes_of_their_own() -> None:
    weights = Weights(total=3000, embedding=1000, vocabulary=100)
    base: dict[str, Scalar] = {"precision": "int8", "block_size": 32}
    assert artifact_bytes(weights, LANGUAGE.canonical({"precision": "fp32"}), 4) == 12_000
    assert artifact_bytes(weights, LANGUAGE.canonical(base), 4) == 2 * 1000 * 1.125 + 4000
    assert artifact_bytes(weights, LANGUAGE.canonical(base | {"lm_head": "fp32"}), 4) == 1125 + 2 * 4000
    assert artifact_bytes(weights, LANGUAGE.canonical(base | {"embedding": "int4"}), 4) == 2 * 1125 + 625
    assert artifact_bytes(weights, LANGUAGE.canonical(base | {"embedding": "shared"}), 4) == 2 * 1125


def test_a_tied_head_is_counted_as_the_graph_has_it(tiny_llama: Path) -> None:
    source = resolve(str(tiny_llama))
    weights = count_weights(source)
    assert (weights.vocabulary, weights.embedding) == (320, 320 * 64)
    assert weights.total == pytest.approx(source.weight_bytes / 4 + 320 * 64)


def test_the_time_of_the_search_is_bounded_by_its_timeout(tiny_llama: Path) -> None:
    free = make_plan(study(tiny_llama, stop={"trials": 9})).estimate
    bounded = make_plan(study(tiny_llama, stop={"trials": 9, "timeout": "1s"})).estimate
    assert free is not None
    assert bounded is not None
    assert bounded.seconds < free.seconds


def test_what_does_not_fit_is_said(tiny_llama: Path) -> None:
    assert make_plan(study(tiny_llama)).fits
    plan = make_plan(study(tiny_llama), FULL_DISK)
    assert plan.fits is False
    assert "not enough disk" in shown(plan)


def test_a_study_that_surely_does_not_fit_is_refused_before_any_work(tiny_llama: Path) -> None:
    require_room(study(tiny_llama))
    with pytest.raises(UsageError, match=r"takes about .* of disk, and .* are free"):
        require_room(study(tiny_llama), FULL_DISK)


def test_plan_and_refusal_name_the_base_that_stays_loaded_where_memory_is_short(tiny_llama: Path) -> None:
    plan = make_plan(study(tiny_llama), FULL_MEMORY)
    assert plan.fits is False
    assert re.search(r"not enough memory \(.*B for the float base that stays loaded", " ".join(lacks(plan)))
    with pytest.raises(
        UsageError, match=r"of memory \(.*B for the float base that stays loaded.*\), and 1 MB are free"
    ):
        require_room(study(tiny_llama), FULL_MEMORY)


def test_plan_of_what_does_not_fit_ends_with_exit_code_2(
    tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw: dict[str, Any] = {"model": str(tiny_llama), "space": SPACE, "evaluation": {"windows": 16}}
    config = tmp_path / "study.yaml"
    config.write_text(yaml.safe_dump(raw))
    assert main(["plan", str(config)]) == 0
    raw["evaluation"] = {"windows": 100_000, "window_tokens": 131_072}  # predictions of 100 TB
    config.write_text(yaml.safe_dump(raw))
    assert main(["plan", str(config)]) == 2
    assert "not enough disk" in capsys.readouterr().err


def test_a_hub_that_is_away_leaves_the_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    plan = make_plan(study("someone/model"))
    assert (plan.estimate, plan.fits, plan.candidates) == (None, None, 9)
    text = shown(plan)
    assert "not estimated" in text
    assert "block_size" in text


def test_a_model_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        make_plan(study(tmp_path / "nowhere"))


def test_the_table_states_its_assumptions(tiny_llama: Path) -> None:
    text = shown(make_plan(study(tiny_llama)))
    for word in ("distinct candidates", "9", "exhaustive", "memory", "disk", "time", "assuming", "GFLOP/s"):
        assert word in text


def test_nothing_is_built(tiny_llama: Path, olivine_cache: Path) -> None:
    before = sorted(olivine_cache.rglob("*"))
    make_plan(study(tiny_llama))
    assert sorted(olivine_cache.rglob("*")) == before


def test_the_head_is_the_embedding_where_the_checkpoint_ties_them_and_in_the_demo_model(
    tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]
) -> None:
    tied, untied = (resolve(str(make_tiny_checkpoint(tmp_path / str(tied), tied=tied))) for tied in (True, False))
    assert head_is_embedding(tied)
    assert not head_is_embedding(untied)
    assert head_is_embedding(resolve("demo:smollm2-135m-instruct"))


@pytest.mark.parametrize("target", ["decode", "prefill", "size"])
def test_a_preset_shares_the_embedding_where_the_head_is_the_same_matrix(target: str) -> None:
    spaces = [preset("cpu", target, "", SearchScope(shares=shares)).space for shares in (True, False)]
    assert spaces[0]["embedding"] == "shared"
    assert "shared" not in np.atleast_1d(spaces[1]["embedding"])


def test_a_graph_that_was_not_exported_here_keeps_its_attention() -> None:
    chosen = preset("cpu", "decode", "", SearchScope(fuses=False))
    assert "prompt_attention" not in chosen.space
    assert not any("prompt_attention" in choice for choice in chosen.enqueue)
