"""The contract of a workload, kept by each of them on a tiny model: a new kind of model is one more row here."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_graph import tiny_graph, tiny_plain_yaml
from tiny_study import tiny_yaml, write_text

from olivine.evaluators.metric import METRICS
from olivine.passes.store.cache import Cache
from olivine.search.cli.main import main
from olivine.search.config.load import parse_config
from olivine.search.export.verify import verify_folder
from olivine.search.study.export_candidate import build_alone, candidate_manifest, rebuild_command
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.registry import workload_of
from olivine.search.workloads.stage import ROLES
from olivine.search.workloads.workload import AnyWorkload


def language_yaml(folder: Path, llama: Path) -> dict[str, Any]:
    space = {"precision": ["int8", "int4"], "algorithm": ["rtn", "gptq"]}
    return tiny_yaml(llama, write_text(folder / "text.txt"), space=space)


def graph_yaml(folder: Path, llama: Path) -> dict[str, Any]:
    return tiny_plain_yaml(tiny_graph(folder / "tiny.onnx"))


@pytest.fixture(scope="module", params=[language_yaml, graph_yaml], ids=["language", "graph"])
def study(request: Any, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A workload with its base built, and a candidate that learns from the study's text or samples."""
    make: Callable[[Path, Path], dict[str, Any]] = request.param
    folder = tmp_path_factory.mktemp("workload")
    config = parse_config(make(folder, tiny_llama), "tiny.yaml")
    workload: AnyWorkload = workload_of(config, StudyDir(folder))
    cache, source = Cache(folder / "cache", 1 << 30), workload.source()
    learning = {"precision": "int8", "activations": "static"} if config.kind == "graph" else {"algorithm": "gptq"}
    choice = workload.catalog.canonical({"precision": "int4", **learning, "threads": 1})
    requests = folder / "requests"
    base = build_alone(workload, source, workload.catalog.compose(workload.base_choice()), cache, requests)
    candidate = build_alone(workload, source, workload.catalog.compose(choice), cache, requests)
    yield SimpleNamespace(
        folder=folder, workload=workload, source=source, base=base, candidate=candidate, choice=choice, cache=cache
    )


def test_a_build_request_is_json(study: SimpleNamespace) -> None:
    learned = study.candidate.learned
    assert learned is not None
    request = study.workload.request(study.source, study.candidate.recipe, learned.key)
    assert json.loads(json.dumps(request)) == request


def test_what_a_study_is_known_by_is_the_same_in_another_process(study: SimpleNamespace) -> None:
    again = workload_of(study.workload.config, StudyDir(study.folder / "elsewhere"))
    assert again.identity() == study.workload.identity()
    assert set(study.workload.fixed) == set(study.workload.identity())


@pytest.mark.parametrize("split", ["select", "confirm"])
def test_the_timed_stage_is_the_last_and_the_one_that_can_be_repeated(study: SimpleNamespace, split: str) -> None:
    stages = study.workload.stages(study.base.artifact, {}, split)
    assert [stage.timed for stage in stages] == [False] * (len(stages) - 1) + [True]
    assert [stage.again is not None for stage in stages] == [stage.timed for stage in stages]
    assert len({stage.name for stage in stages}) == len(stages)
    assert {stage.role for stage in stages} == {*ROLES} - {"build"}


def test_the_base_is_a_choice_of_the_catalog_that_changes_no_weight(study: SimpleNamespace) -> None:
    choice = study.workload.base_choice()
    assert study.workload.catalog.canonical(choice) == choice
    assert choice["precision"] == "fp32"


def test_columns_of_front_csv_are_metrics(study: SimpleNamespace) -> None:
    columns = study.workload.columns
    assert set(columns.metrics) <= set(METRICS)
    assert {*columns.with_interval, *columns.searched} <= set(columns.metrics)


def test_an_export_is_verified_and_its_command_builds_the_same_bytes(
    study: SimpleNamespace, olivine_cache: Path
) -> None:
    workload, candidate = study.workload, study.candidate
    manifest = candidate_manifest(workload, study.source, candidate, study.choice, {}, {"made": "by a test"})
    exported = workload.export(candidate, study.folder / "exported", manifest)
    assert (exported / workload.exported).is_file()
    assert verify_folder(exported).files > 0
    command = shlex.split(rebuild_command(workload, study.source.revision, candidate, study.choice))
    assert command[:2] == ["olivine", "build"]
    rebuilt = study.folder / "rebuilt"
    command[command.index("--to") + 1] = str(rebuilt)
    assert main(command[1:]) == 0
    tables = [json.loads((folder / "olivine.json").read_text())["files"] for folder in (exported, rebuilt)]
    assert tables[0] == tables[1]
