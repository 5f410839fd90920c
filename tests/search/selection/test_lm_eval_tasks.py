"""A study with lm-eval's tasks: looked up before it starts, measured on the base and the confirmed front."""

from __future__ import annotations

import io
import json
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from rich.console import Console
from study_folder import records, write_study
from task_files import CHOICE, write_tasks
from tiny_study import tiny_yaml, write_text

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.messages import Loaded
from olivine.evaluators.quality.lm_eval import TaskFailed
from olivine.passes.errors import UsageError
from olivine.search.cli.main import main
from olivine.search.config.load import language_config, parse_config
from olivine.search.planning.preflight import require_tasks
from olivine.search.records import StudyOutcome, TaskScores
from olivine.search.report.progress import LineOutput
from olivine.search.report.report import render
from olivine.search.selection.lm_eval_tasks import score_tasks, trials_to_score
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


@dataclass(frozen=True)
class FakeTasks:
    """Tasks that score a model by the name of its folder; one fails."""

    def load(self) -> FakeTasks:
        return self

    def evaluate(self, process: object, folder: Path) -> list[Measurement]:
        if folder.name.startswith("0005"):
            raise TaskFailed("piqa failed")
        return [score(float(folder.name[:4]), (1.0,))]


class FakeMeasurer:
    """Opens no process, and names a folder after the build."""

    def scored(self, recipe: object, name: str) -> AbstractContextManager[tuple[Any, Path]]:
        return nullcontext((SimpleNamespace(loaded=LOADED), Path(name)))


def test_base_front_and_selected_trial_are_scored_wherever_the_selected_one_lies() -> None:
    outcome = StudyOutcome(trial=7, reason="it fits", front=(5, 3))
    assert [record.number for record in trials_to_score(records(), outcome)] == [0, 3, 5, 7]


def test_a_task_that_fails_is_named_and_costs_no_other_trial() -> None:
    trials = [record for record in records() if record.number in (0, 3, 5, 7)]
    console = Console(file=io.StringIO(), width=200, record=True)
    scores = score_tasks(cast(Any, FakeTasks()), cast(Any, FakeMeasurer()), trials, LineOutput(console))
    assert {number: metrics["piqa.acc"].value for number, metrics in scores.measured.items()} == {
        0: 0.0,
        3: 3.0,
        7: 7.0,
    }
    assert scores.failures == ("Trial 5: piqa failed",)
    assert "tasks 4/4: trial 7" in console.export_text()


def test_a_study_whose_tasks_need_the_missing_package_does_not_start(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    raw = with_tasks(tiny_llama, write_text(tmp_path / "text.txt"), tmp_path)
    with pytest.raises(UsageError, match=r"pip install 'olivine\[lm-eval\]'"):
        require_tasks(language_config(parse_config(raw, "tiny.yaml")).evaluation.lm_eval)
    del raw["evaluation"]["lm_eval"]
    require_tasks(language_config(parse_config(raw, "tiny.yaml")).evaluation.lm_eval)


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
