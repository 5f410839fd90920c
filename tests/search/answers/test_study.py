"""Answers about a study folder, read back from what the commands print."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from study_folder import OBJECTIVES, record, write_study

from olivine.search.answers.shape import to_json
from olivine.search.answers.study import Comparison, Front, Status, Trials, optimized_answer, trials_answer
from olivine.search.cli.main import main
from olivine.search.study_dir import StudyDir


@pytest.fixture
def study(tmp_path: Path) -> StudyDir:
    return write_study(tmp_path / "study")


def printed(words: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    assert main(words) == 0
    return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


@pytest.mark.parametrize("place", ["before", "after"])
def test_trials_are_their_records_wherever_the_option_stands(
    place: str, study: StudyDir, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--json", str(study.root)] if place == "before" else [str(study.root), "--json"]
    trials = Trials.model_validate(printed(["trials", *words], capsys)).root
    assert [trial.number for trial in trials] == list(range(16))
    assert trials[15].state == "failed"
    assert trials[7].metrics["tpot_speedup"].value == pytest.approx(2.91)
    assert trials[7].params == {"precision": "mixed", "int8_share": 0.3, "block_size": 32}


def test_numbers_that_json_has_no_word_for_are_null() -> None:
    endless = record(1)
    load = replace(endless.metrics["load_ms"], high=math.inf, protocol={"longest": [math.inf]})
    text = to_json(trials_answer([replace(endless, metrics={"load_ms": load})]))
    measured = json.loads(text, parse_constant=pytest.fail)[0]["metrics"]["load_ms"]
    assert measured["high"] is None
    assert measured["protocol"] == {"longest": [None]}


def test_a_comparison_has_what_differs_and_the_verdict(study: StudyDir, capsys: pytest.CaptureFixture[str]) -> None:
    compared = Comparison.model_validate(printed(["compare", str(study.root), "1", "7", "--json"], capsys))
    assert (compared.a.number, compared.b.number, compared.same_recipe) == (1, 7, False)
    assert compared.params["precision"] == ("int8", "mixed")
    assert compared.params["int8_share"] == (None, 0.3)
    decode = compared.metrics["tpot_speedup"]
    assert decode.a is not None
    assert decode.a.unit == "ratio"
    assert decode.verdict.startswith("B decodes 1.21x faster")


def test_an_ended_study_says_what_it_selected_and_why(study: StudyDir, capsys: pytest.CaptureFixture[str]) -> None:
    status = Status.model_validate(printed(["status", str(study.root), "--json"], capsys))
    assert (status.state, status.selected) == ("ended", 7)
    assert status.trials == {"complete": 11, "infeasible": 3, "failed": 1}
    assert "knee" in status.reason
    assert status.metrics["perplexity_ratio"].value == pytest.approx(1.058)
    assert status.best is None  # this study folder holds no model


def test_a_study_that_a_process_holds_is_running_and_one_that_was_left_is_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write_study(tmp_path / "study", ended=False)
    with study.locked():
        assert printed(["status", str(study.root), "--json"], capsys)["state"] == "running"
    assert printed(["status", str(study.root), "--json"], capsys)["state"] == "stopped"


def test_the_front_is_the_confirmed_one_with_numbers_and_the_selection(
    study: StudyDir, capsys: pytest.CaptureFixture[str]
) -> None:
    front = Front.model_validate(printed(["front", str(study.root), "--json"], capsys))
    assert front.confirmed
    assert front.objectives == list(OBJECTIVES)
    assert [member.trial for member in front.members if member.selected] == [7]
    assert [member.metrics["tpot_ms"].value for member in front.members] == sorted(
        member.metrics["tpot_ms"].value or 0 for member in front.members
    )


def test_the_front_of_a_study_that_has_not_ended_is_that_of_the_search_so_far(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write_study(tmp_path / "study", ended=False)
    front = Front.model_validate(printed(["front", str(study.root), "--json"], capsys))
    assert not front.confirmed
    assert {member.trial for member in front.members} > {7}
    assert main(["front", str(study.root)]) == 0
    assert "not confirmed" in capsys.readouterr().out


def test_the_tables_stay_on_standard_output_where_the_answer_goes_to_a_file(
    study: StudyDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "compared.json"
    assert main(["compare", str(study.root), "1", "7", "--json", str(file)]) == 0
    assert "B decodes" in capsys.readouterr().out
    assert json.loads(file.read_text())["b"]["number"] == 7


def test_a_folder_of_one_recipe_names_no_study(study: StudyDir, tmp_path: Path) -> None:
    for sections, name in (({}, None), ({"study": {"name": "demo", "trial": 7}}, "demo")):
        (tmp_path / "olivine.json").write_text(json.dumps(sections))
        made = optimized_answer(tmp_path, study)
        assert made.path == str(tmp_path)
        assert (made.study.name if made.study else None) == name
