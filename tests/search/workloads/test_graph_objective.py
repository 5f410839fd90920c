"""What becomes of a plain candidate that outgrows its memory, and of one whose base dies or whose files go."""

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
from olivine.search.builds.client import BuildOutcome
from olivine.search.config.graph import GraphStudyConfig
from olivine.search.config.load import load_config
from olivine.search.report.progress import LineOutput
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.graph_builder import GraphBuilder
from olivine.search.workloads.graph_objective import GraphObjective
from olivine.search.workloads.graph_study import base_choice, open_plain

CHOICE = {"precision": "int8", "activations": "dynamic"}
LIMIT = 1_000_000_000
EXCESS = Excess(1_200_000_000, LIMIT)


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("said") / "said.txt"


@pytest.fixture(scope="module")
def objective(tmp_path_factory: pytest.TempPathFactory, said: Path) -> Iterator[GraphObjective]:
    home = tmp_path_factory.mktemp("objective")
    raw = tiny_plain_yaml(tiny_graph(home / "tiny.onnx"), constraints=["cosine_distance <= 0.5"])
    (home / "study.yaml").write_text(yaml.safe_dump(raw))
    config = load_config(home / "study.yaml")
    assert isinstance(config, GraphStudyConfig)
    with said.open("w") as stream:
        progress = LineOutput(Console(file=stream, width=400))
        with open_plain(config, StudyDir(home / "out"), progress) as search:
            assert search.objective.measure(0, base_choice(config)).state == "complete"
            yield search.objective


def test_a_model_that_outgrows_its_memory_is_infeasible_with_its_peak(
    objective: GraphObjective, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outgrown(process: ModelProcess, *_: Any) -> OutputScore:
        process.close()
        raise ModelProcessFailed("memory", f"The process of a model was ended in 'compare': it {EXCESS}", "", EXCESS)

    monkeypatch.setattr(ModelProcess, "compare", outgrown)
    record = objective.measure(1, CHOICE)
    assert record.state == "infeasible"
    assert "its limit is 1000 MB (children.memory)" in record.reason
    assert record.constraints == {"children.memory": pytest.approx(0.2)}
    assert record.value("peak_rss_bytes") == EXCESS.peak_bytes


def test_a_build_that_outgrows_its_memory_is_infeasible_with_its_peak(
    objective: GraphObjective, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outgrown(*_: Any) -> BuildOutcome:
        raise BuildFailed(f"the build was ended: it {EXCESS}", "", EXCESS)

    monkeypatch.setattr(GraphBuilder, "build", outgrown)
    record = objective.measure(2, CHOICE)
    assert record.state == "infeasible"
    assert record.constraints == {"children.memory": pytest.approx(0.2)}
    assert record.build_peak_rss_bytes == EXCESS.peak_bytes
    assert "peak_rss_bytes" not in record.metrics


@pytest.mark.parametrize("lost", ["base", "files"])
def test_what_a_candidate_did_not_lose_by_itself_costs_it_nothing(
    objective: GraphObjective, monkeypatch: pytest.MonkeyPatch, said: Path, lost: str
) -> None:
    compare, times = ModelProcess.compare, [0]

    def spoiled(process: ModelProcess, *arguments: Any) -> OutputScore:
        times[0] += 1
        if times[0] == 1 and lost == "base":
            base = objective.base()
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
    objective: GraphObjective, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = [0]

    def refused(*_: Any) -> OutputScore:
        times[0] += 1
        raise ModelProcessFailed("error", "it gives no such output")

    monkeypatch.setattr(ModelProcess, "compare", refused)
    record = objective.measure(4, CHOICE)
    assert (record.state, record.reason, record.constraints) == ("failed", "it gives no such output", {})
    assert times[0] == 1
