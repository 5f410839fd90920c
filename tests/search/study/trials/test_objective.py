"""A candidate is built and measured once, by one worker or by several; losses that are not its fault cost nothing."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from tiny_graph import tiny_graph, tiny_plain_yaml

from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.process.failure import ModelProcessFailed
from olivine.evaluators.process.messages import OutputScore
from olivine.passes.errors import BuildFailed, Excess
from olivine.search.builds.builder import Builder, BuildOutcome
from olivine.search.config.load import load_config
from olivine.search.report.progress import LineOutput
from olivine.search.study.begin import begin
from olivine.search.study.open import open_study
from olivine.search.study.trials.objective import Objective
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.registry import workload_of

CHOICE = {"precision": "int8", "activations": "dynamic"}
LIMIT = 1_000_000_000
EXCESS = Excess(1_200_000_000, LIMIT)


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("said") / "said.txt"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("objective")


@pytest.fixture(scope="module")
def objective(home: Path, said: Path) -> Iterator[Objective]:
    raw = tiny_plain_yaml(
        tiny_graph(home / "tiny.onnx"), constraints=["cosine_distance <= 0.5", "model_bytes <= 20000"]
    )
    (home / "study.yaml").write_text(yaml.safe_dump(raw))
    workload = workload_of(load_config(home / "study.yaml"), StudyDir(home / "out"))
    with said.open("w") as stream:
        progress = LineOutput(Console(file=stream, width=400))
        with open_study(workload, StudyDir(home / "out"), progress) as opened:
            yield begin(opened).objective


def test_a_model_that_outgrows_its_memory_is_infeasible_with_its_peak(
    objective: Objective, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outgrown(process: ModelProcess, *_: Any) -> OutputScore:
        process.close()
        raise ModelProcessFailed("memory", f"The process of a model was ended in 'compare': it {EXCESS}", "", EXCESS)

    monkeypatch.setattr(ModelProcess, "compare", outgrown)
    record = objective.measure(1, CHOICE)
    assert record.state == "infeasible"
    assert "its limit is 1000 MB (children.memory)" in record.reason
    assert record.constraints["children.memory"] == pytest.approx(0.2)
    assert record.value("peak_rss_bytes") == EXCESS.peak_bytes


def test_a_build_that_outgrows_its_memory_is_infeasible_with_its_peak(
    objective: Objective, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outgrown(*_: Any) -> BuildOutcome:
        raise BuildFailed(f"the build was ended: it {EXCESS}", "", EXCESS)

    monkeypatch.setattr(Builder, "build", outgrown)
    record = objective.measure(2, CHOICE)
    assert record.state == "infeasible"
    assert record.constraints == {"children.memory": pytest.approx(0.2)}
    assert record.build_peak_rss_bytes == EXCESS.peak_bytes
    assert "peak_rss_bytes" not in record.metrics


@pytest.mark.parametrize("lost", ["base", "files"])
def test_what_a_candidate_did_not_lose_by_itself_costs_it_nothing(
    objective: Objective, monkeypatch: pytest.MonkeyPatch, said: Path, lost: str
) -> None:
    compare, times = ModelProcess.compare, [0]

    def spoiled(process: ModelProcess, *arguments: Any) -> OutputScore:
        times[0] += 1
        if times[0] == 1 and lost == "base":
            base = objective.baseline.process
            os.kill(base.pid, signal.SIGKILL)
            base.stats()
        if times[0] == 1 and lost == "files":
            assert process.folder is not None
            shutil.rmtree(process.folder.parent)
            raise ModelProcessFailed("error", "its files are gone")
        return compare(process, *arguments)

    monkeypatch.setattr(ModelProcess, "compare", spoiled)
    record = objective.measure(3, CHOICE)
    assert (record.state, record.reason) == ("complete", "")
    assert times[0] > 1
    what = {"base": "the base's process died under way", "files": "its files in the cache were deleted or changed"}
    assert f"trial 3: {what[lost]}" in said.read_text()


def test_a_candidate_that_fails_by_itself_is_not_run_again(
    objective: Objective, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = [0]

    def refused(*_: Any) -> OutputScore:
        times[0] += 1
        raise ModelProcessFailed("error", "it gives no such output")

    monkeypatch.setattr(ModelProcess, "compare", refused)
    record = objective.measure(4, CHOICE)
    assert (record.state, record.reason) == ("failed", "it gives no such output")
    assert times[0] == 1


def test_a_candidate_that_is_too_large_is_dropped_before_it_is_loaded(objective: Objective) -> None:
    record = objective.measure(5, {"precision": "fp32"})
    assert record.state == "infeasible"
    assert record.ladder["step"] == "size"
    assert "load" not in record.phases
    assert set(record.metrics) == {"model_bytes"}


def test_a_candidate_whose_outputs_are_too_far_off_is_not_timed(
    objective: Objective, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelProcess, "compare", lambda *_: OutputScore(0.1, 0.0, 1.0, True))
    record = objective.measure(6, CHOICE)
    assert record.state == "infeasible"
    assert record.ladder == {"step": "memory and outputs", "reason": record.reason, "audited": False}
    assert "latency_ms" not in record.metrics


def test_two_workers_do_the_parts_of_a_trial_that_one_does_alone(objective: Objective) -> None:
    scored = objective.measure(7, CHOICE, ("build", "quality"))
    assert scored.state == "complete"
    assert not {"latency_ms", "peak_rss_bytes"} & set(scored.metrics), "those of the study's hardware alone compare"
    timed = objective.measure(7, CHOICE, ("latency",), scored)
    alone = objective.measure(7, CHOICE)
    assert set(timed.metrics) == set(alone.metrics)
    assert timed.value("cosine_distance") == alone.value("cosine_distance")
    assert timed.passes == scored.passes
    assert {"build", "fetch"} <= set(timed.phases)


def test_the_next_candidate_is_built_while_this_one_is_measured(objective: Objective, home: Path) -> None:
    following = {"precision": "int4", "block_size": 16}
    request = home / "out" / "requests" / "0009.request.json"
    objective.measure(8, CHOICE, ahead=lambda: following)
    assert request.is_file()
    written = request.stat().st_mtime_ns
    assert objective.measure(9, following).state == "complete"
    assert request.stat().st_mtime_ns == written, "it was built once"


def test_a_build_of_another_candidate_than_the_next_is_given_up(objective: Objective) -> None:
    objective.measure(10, CHOICE, ahead=lambda: {"precision": "int4", "block_size": 64})
    record = objective.measure(11, {"precision": "int4", "block_size": 32})
    assert record.state == "complete"
    assert record.recipe.passes()[0].params()["block_size"] == 32
