"""A study with lm-eval's tasks: looked up before it starts, measured on the base and the confirmed front."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import yaml
from study_folder import write_study
from task_files import CHOICE, write_tasks
from tiny_study import tiny_yaml, write_text

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.messages import Loaded
from olivine.passes.errors import UsageError
from olivine.search.cli.main import main
from olivine.search.config.load import parse_config
from olivine.search.planning.preflight import require_tasks
from olivine.search.records import TaskScores
from olivine.search.report.report import render
from olivine.search.selection.confirm import Confirmation
from olivine.search.selection.lm_eval_tasks import confirm_tasks
from olivine.search.study.runner import StudyRunner
from olivine.search.study_dir import StudyDir

pytestmark = pytest.mark.usefixtures("olivine_cache")


LOADED = Loaded(1.0, "CPUExecutionProvider", 1, 3, {})


def score(value: float, samples: tuple[float, ...]) -> Measurement:
    protocol = {"questions": len(samples), "limit": 4, "higher_is_better": True}
    return Measurement("piqa.acc", "1", value, value - 0.1, value + 0.1, samples, protocol)


def with_tasks(folder: Path, text: Path, tasks: Path, **more: object) -> dict[str, object]:
    raw = tiny_yaml(folder, text, stop={"trials": 1}, confirm={"members": 1, "race": None}, **more)
    raw["evaluation"]["lm_eval"] = {"tasks": [CHOICE], "limit": 3, "include_path": str(tasks)}
    return raw


@pytest.mark.lm_eval
def test_a_study_measures_its_tasks_on_the_base_and_the_front(tiny_llama: Path, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    tasks = write_tasks(tmp_path / "tasks")
    config, root = tmp_path / "tiny.yaml", tmp_path / "study"
    config.write_text(yaml.safe_dump(with_tasks(tiny_llama, write_text(tmp_path / "text.txt"), tasks)))
    assert main(["run", str(config), "--out", str(root)]) == 0
    study = StudyDir.open(root)
    scores = study.outcome().tasks
    assert scores is not None
    assert scores.failures == ()
    assert set(scores.measured) == {0, study.outcome().trial}
    for metrics in scores.measured.values():
        accuracy = metrics[f"{CHOICE}.acc"]
        assert accuracy.protocol["questions"] == len(accuracy.samples) == 3
        assert accuracy.protocol["provider"] == "CPUExecutionProvider"
    manifest = json.loads((study.best_path / "olivine.json").read_text())
    assert manifest["measurements"][f"{CHOICE}.acc"]["samples"] == []
    assert f"{CHOICE}.acc" in study.report_path.read_text()


def test_the_selected_trial_is_measured_also_where_it_is_not_on_the_front(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = SimpleNamespace(load=lambda: SimpleNamespace(evaluate=lambda process, folder: []))
    monkeypatch.setattr("olivine.search.selection.lm_eval_tasks.asked_tasks", lambda given: asked)
    folder = write_study(tmp_path / "study")
    search = SimpleNamespace(
        config=SimpleNamespace(evaluation=SimpleNamespace(lm_eval=object())),
        records=folder.trials(),
        folder=folder,
        progress=SimpleNamespace(phase_started=lambda phase: None),
        objective=SimpleNamespace(scored=lambda recipe, name: nullcontext((SimpleNamespace(loaded=LOADED), None))),
    )
    found = confirm_tasks(cast(StudyRunner, search), Confirmation((), (3, 5), {}))
    assert folder.outcome().trial == 7
    assert found is not None
    assert set(found.measured) == {0, 3, 5, 7}


def test_a_study_whose_tasks_need_the_missing_package_does_not_start(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    raw = with_tasks(tiny_llama, write_text(tmp_path / "text.txt"), tmp_path)
    with pytest.raises(UsageError, match=r"pip install 'olivine\[lm-eval\]'"):
        require_tasks(parse_config(raw, "tiny.yaml"))
    del raw["evaluation"]["lm_eval"]
    require_tasks(parse_config(raw, "tiny.yaml"))


def test_the_report_shows_scores_and_the_differences_from_the_base(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    measured = {0: {"piqa.acc": score(0.75, (1, 1, 1, 0))}, 7: {"piqa.acc": score(0.25, (0, 0, 1, 0))}}
    tasks = TaskScores(measured, ("Trial 5: piqa failed: <KeyError>",))
    study.write_outcome(replace(study.outcome(), tasks=tasks))
    html = render(study)
    assert "Tasks of lm-eval" in html
    assert "first 4 questions" in html
    assert "0.750 ±0.100" in html
    assert "-0.500 (-1.419 to +0.419): no difference found" in html
    assert "Trial 5: piqa failed: &lt;KeyError&gt;" in html
    assert "Tasks of lm-eval" not in render(write_study(tmp_path / "other"))
