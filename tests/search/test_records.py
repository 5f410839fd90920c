"""Records and outcomes: their JSON is read as it is written, and as version 0.1.0 wrote it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from study_folder import entry, record, records, write_study

from olivine.search.records import LeftOut, StudyOutcome, TaskScores, TrialRecord
from olivine.search.study_dir import StudyDir

OLD = [StudyDir(Path(__file__).parent / "study" / name) for name in ("study-0.1.0", "graph-study-0.1.0")]
#: Fields that the first records did not have yet.
LATER = {"runtime": "", "workers": {}, "ladder": {}}


@pytest.mark.parametrize("number", range(16))
def test_a_record_is_read_as_it_was_written(number: int) -> None:
    written = record(number)
    assert TrialRecord.from_json(json.loads(json.dumps(written.to_json()))) == written


@pytest.mark.parametrize("path", [path for study in OLD for path in sorted((study.root / "trials").iterdir())], ids=str)
def test_a_record_of_the_first_version_is_written_again_as_it_was(path: Path) -> None:
    old = json.loads(path.read_text())
    again = TrialRecord.from_json(old).to_json()
    text = json.dumps({name: again[name] for name in old}, indent=1)
    assert text == path.read_text()
    assert all(again[name] == LATER[name] for name in again if name not in old)


@pytest.mark.parametrize("study", OLD, ids=lambda study: study.root.name)
def test_a_recorded_recipe_has_the_identity_that_was_recorded(study: StudyDir) -> None:
    assert all(trial.recipe.key == trial.recipe_key for trial in study.trials())


@pytest.mark.parametrize("study", OLD, ids=lambda study: study.root.name)
def test_an_outcome_of_the_first_version_keeps_what_it_says(study: StudyDir) -> None:
    old = json.loads(study.selection_path.read_text())
    again = json.loads(json.dumps(study.outcome().to_json()))
    assert {name: again[name] for name in old} == old


def test_an_outcome_is_read_as_it_was_written(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    endless = replace(entry("load_ms", 1.0), high=math.inf, samples=(1.0, 1.5))
    outcome = replace(
        study.outcome(),
        front=(7, 3),
        dominated_probability={7: 0.1},
        measured={7: 3},
        shrinkage={"tpot_speedup": 0.98},
        tasks=TaskScores({0: {"load_ms": endless}}, ("Trial 5: it failed",)),
        ablation=(
            LeftOut("algorithm", "gptq", "rtn", {"load_ms": endless}),
            LeftOut("lm_head", "int8", "same", {}, "no"),
        ),
    )
    study.write_outcome(outcome)
    assert study.outcome() == outcome
    assert outcome.ended
    assert outcome.metrics == records()[7].metrics


def test_a_study_that_runs_has_an_empty_outcome(tmp_path: Path) -> None:
    outcome = write_study(tmp_path / "study", ended=False).outcome()
    assert outcome == StudyOutcome()
    assert not outcome.ended
    assert outcome.metrics == {}
