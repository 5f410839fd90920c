"""A study folder of a graph that version 0.1.0 left: it is read, reported, resumed and exported from."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import yaml
from tiny_graph import tiny_graph, tiny_plain_yaml

from olivine.search.cli.main import main

OLD = Path(__file__).parent / "graph-study-0.1.0"


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder beside the model that it is about, in the current folder."""
    monkeypatch.chdir(tmp_path)
    tiny_graph(tmp_path / "tiny.onnx")
    return Path(shutil.copytree(OLD, tmp_path / "study"))


def test_trials_of_an_old_graph_study_are_listed_and_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trials", str(OLD), "--json"]) == 0
    assert [record["number"] for record in json.loads(capsys.readouterr().out)] == [0, 1, 2, 3]
    assert main(["compare", str(OLD), "1", "2"]) == 0
    assert "latency_speedup" in capsys.readouterr().out


def test_the_report_of_an_old_graph_study_names_its_selection(study: Path) -> None:
    assert main(["report", str(study)]) == 0
    assert "cosine distance" in (study / "report.html").read_text()


def test_a_trial_of_an_old_graph_study_is_exported_and_verified(study: Path) -> None:
    assert main(["export", str(study), "--trial", "2", "--to", "exported"]) == 0
    assert main(["verify", "exported"]) == 0


def test_an_old_graph_study_goes_on_with_recipes_that_it_has_not_measured(study: Path) -> None:
    raw = tiny_plain_yaml(Path("tiny.onnx"), stop={"trials": 4})
    Path("study.yaml").write_text(yaml.safe_dump(raw))
    old = {path.name: path.read_bytes() for path in (study / "trials").iterdir()}
    assert main(["run", "study.yaml", "--out", str(study)]) == 0
    records = [json.loads(path.read_text()) for path in sorted((study / "trials").iterdir())]
    assert [record["number"] for record in records] == [0, 1, 2, 3, 4]
    assert len({record["recipe_key"] for record in records}) == 5
    assert all((study / "trials" / name).read_bytes() == content for name, content in old.items())
    with (study / "front.csv").open() as stream:
        assert [row["selected"] for row in csv.DictReader(stream)].count("True") == 1
