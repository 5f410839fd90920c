"""One whole study of a tiny graph, from its YAML to its verified export; what it left is looked at from all sides."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from pathlib import Path

import onnxruntime as ort
import pytest
import yaml
from tiny_graph import tiny_graph, tiny_plain_yaml

from olivine.search.cli.main import main
from olivine.search.study_dir import StudyDir


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("study")
    config = home / "study.yaml"
    config.write_text(yaml.safe_dump(tiny_plain_yaml(tiny_graph(home / "tiny.onnx"))))
    assert main(["run", str(config), "--out", str(home / "out"), "--trials", "2"]) == 0
    # The same command goes on where it ended.
    assert main(["run", str(config), "--out", str(home / "out")]) == 0
    return home / "out"


def test_records_are_whole_and_the_base_is_trial_0(study: Path) -> None:
    records = StudyDir.open(study).trials()
    assert [record.number for record in records] == [0, 1, 2, 3]
    assert {record.state for record in records} == {"complete"}
    assert len({record.recipe_key for record in records}) == 4
    base = records[0]
    assert base.value("latency_speedup") == 1
    assert base.value("cosine_distance") == 0
    for record in records[1:]:
        latency = record.metrics["latency_ms"]
        assert latency.value == pytest.approx(base.value("latency_ms") / record.value("latency_speedup"))
        assert set(latency.protocol["shapes"]) == {"one", "many"}
        assert 0 < record.value("cosine_distance") < 0.1
        assert record.metrics["cosine_distance"].protocol["origin"] == "made-up values"


def test_the_front_is_confirmed_on_other_samples_and_one_of_it_selected(study: Path) -> None:
    with (study / "front.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {"latency_ms", "latency_speedup_low", "cosine_distance", "model_bytes", "activations"} <= set(rows[0])
    assert [row["selected"] for row in rows].count("True") == 1
    selection = json.loads((study / "selection.json").read_text())
    confirmed = selection["confirmed"][str(selection["trial"])]
    assert confirmed["cosine_distance"]["protocol"]["split"] == "confirm"


def test_the_export_runs_in_plain_onnxruntime_and_is_verified(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session = ort.InferenceSession(study / "best" / "model.onnx")
    assert [given.name for given in session.get_inputs()] == ["input_ids"]
    manifest = json.loads((study / "best" / "olivine.json").read_text())
    assert manifest["kind"] == "plain"
    assert manifest["measurements"]["latency_speedup"]["value"] > 0
    assert main(["verify", str(study / "best")]) == 0
    assert "its output is what it was" in " ".join(capsys.readouterr().out.split())


def test_a_graph_that_was_changed_does_not_verify(study: Path, tmp_path: Path) -> None:
    assert main(["export", str(study), "--trial", "1", "--to", str(tmp_path / "one")]) == 0
    path = tmp_path / "one" / "model.onnx"
    path.write_bytes(path.read_bytes() + b"\x00")
    assert main(["verify", str(tmp_path / "one")]) == 1


def test_report_and_tables_show_it(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = (study / "report.html").read_text()
    assert "cosine distance" in report
    assert "perplexity" not in report
    assert main(["trials", str(study)]) == 0
    assert main(["compare", str(study), "0", "1"]) == 0
    assert "latency_speedup" in capsys.readouterr().out


def test_another_study_is_refused_in_its_folder(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = yaml.safe_load((study / "config.yaml").read_text())
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump({**raw, "seed": 1}))
    assert main(["run", str(other), "--out", str(study)]) == 2
    assert "another seed" in " ".join(capsys.readouterr().err.split())


def test_sizes_that_the_graph_does_not_have_end_the_study_as_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tiny_plain_yaml(tiny_graph(tmp_path / "tiny.onnx"), inputs={"shapes": {"one": {"batch": 1}}})
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(raw))
    assert main(["run", str(tmp_path / "study.yaml"), "--out", str(tmp_path / "out")]) == 2
    assert "gives no size 'sequence'" in " ".join(capsys.readouterr().err.split())


def test_a_graph_that_has_changed_since_the_study_began_is_refused(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = StudyDir(Path(shutil.copytree(study, tmp_path / "copy")))
    environment = copy.environment()
    environment["model"]["key"] = "of other weights"
    copy.environment_path.write_text(json.dumps(environment))
    assert main(["run", str(study.parent / "study.yaml"), "--out", str(copy.root)]) == 2
    assert main(["export", str(copy.root), "--trial", "1", "--to", str(tmp_path / "one")]) == 2
    assert capsys.readouterr().err.count("its files have changed") == 2


def test_a_study_without_the_record_of_its_base_is_refused(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(study, tmp_path / "copy"))
    (copy / "trials" / "0000.json").unlink()
    assert main(["run", str(study.parent / "study.yaml"), "--out", str(copy)]) == 2
    assert "has no record of its base" in " ".join(capsys.readouterr().err.split())


def test_a_graph_study_takes_workers_ablation_a_shared_cache_and_a_rebuild_command(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    raw = tiny_plain_yaml(
        tiny_graph(tmp_path / "tiny.onnx"),
        space={"precision": "int8", "activations": ["dynamic", "static"]},
        confirm={"members": 2, "race": None, "ablation": True},
        cache={"shared": shared.as_uri(), "folder": str(tmp_path / "cache")},
    )
    config, out = tmp_path / "study.yaml", tmp_path / "out"
    config.write_text(yaml.safe_dump(raw))
    assert main(["run", str(config), "--out", str(out), "--storage", f"sqlite:///{tmp_path / 'study.db'}"]) == 0
    records = StudyDir.open(out).trials()
    assert all(set(record.workers) == {"build", "quality", "latency"} for record in records[1:])
    selection = json.loads((out / "selection.json").read_text())
    assert [row["axis"] for row in selection["ablation"]] == ["activations"]
    assert list(shared.iterdir()), "builds are left for other workers"
    command = selection["rebuild"].replace("--to DIR", f"--to {tmp_path / 'again'}")
    assert main(shlex.split(command)[1:]) == 0
    assert (tmp_path / "again" / "model.onnx").read_bytes() == (out / "best" / "model.onnx").read_bytes()
