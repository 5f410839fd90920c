"""A task of one's own in a plain study: its mistakes, its rows, and a study whose front it limits."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tiny_graph import labelled_rows, tiny_graph, tiny_plain_yaml, tiny_tokenizer, write_rows

from olivine.passes.errors import UsageError
from olivine.passes.graphs.graph_inputs import GraphInput, read_feeds
from olivine.search.cli.main import main
from olivine.search.config.graph import GraphStudyConfig
from olivine.search.config.load import parse_config
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.graph_task import Task, load_task
from olivine.search.workloads.task_rows import PARTS

IDS = (GraphInput("input_ids", "int64", ("batch", "sequence"), 50),)
ROWS = [{"text": f"w{i} w{i + 1}", "other": f"w{i}", "label": i % 2, "near": i / 40} for i in range(40)]


def config(data: object, changes: Mapping[str, Any] | None = None, **more: Any) -> GraphStudyConfig:
    task = {"data": str(data), "inputs": {"text": "text"}, **(changes or {})}
    raw = tiny_plain_yaml(Path("tiny.onnx"), **more)
    return parse_config({**raw, "evaluation": {**raw["evaluation"], "task": task}}, "x.yaml")


def task_of(data: object, **changes: Any) -> Task:
    found = load_task(config(data, changes))
    assert found is not None
    return found


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    tiny_tokenizer(tmp_path)
    return write_rows(tmp_path / "rows.jsonl", ROWS)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"inputs": {"text": ["a", "b", "c"]}},
            "task.inputs.text: takes a column, or a list of two columns",
        ),
        ({"inputs": {"picture": "a"}}, "evaluation.task.inputs.picture: unknown key"),
        ({"prediction": "argmx"}, "evaluation.task.prediction: unknown value 'argmx'. Did you mean 'argmax'"),
        ({"prediction": "cosine", "metric": "pearsonr"}, "evaluation.task.inputs.text: 'cosine' compares two texts"),
        (
            {"prediction": "cosine", "inputs": {"text": ["a", "b"]}},
            "evaluation.task.metric: 'accuracy' compares classes; a cosine is none: take pearsonr or spearmanr",
        ),
        (
            {"prediction": "tokens", "inputs": {"text": ["a", "b"]}},
            "evaluation.task.inputs.text: 'tokens' takes one column",
        ),
        ({"prediction": "value"}, "'accuracy' compares classes; a value is none: take pearsonr or spearmanr"),
        ({"split": "test"}, "evaluation.task.split: has no effect for a file such as rows.csv"),
        ({"limit": 1}, "evaluation.task.limit: takes at least 2; found 1"),
        ({"colour": 1}, "evaluation.task.colour: unknown key"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_mistakes_of_the_yaml_are_named_with_their_place(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        config("rows.csv", changes)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"objectives": ["latency_ms", "task_score"]}, "objectives.1: task_score"),
        ({"constraints": ["task_drop <= 1%"]}, "constraints.0: task_drop"),
        ({"select": {"where": ["task_score >= 0.8"]}}, "select.where.0: task_score"),
        ({"select": {"metric": "task_score"}}, "select.metric: task_score"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_goals_that_need_a_task_say_so(changes: dict[str, Any], place: str) -> None:
    with pytest.raises(UsageError, match=r"needs evaluation\.task:") as caught:
        parse_config(tiny_plain_yaml(Path("tiny.onnx"), **changes), "x.yaml")
    assert place in str(caught.value)


def test_a_score_above_one_can_never_be() -> None:
    with pytest.raises(UsageError, match="can never hold: task_score is at most 1"):
        config("rows.csv", constraints=["task_score >= 80"])
    assert config("rows.csv", constraints=["task_score >= 80%"]).parsed_constraints()[0].bound == 0.8


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"inputs": {"text": "txt"}}, "task.inputs.text: rows.jsonl has no column 'txt'. Did you mean 'text'?"),
        ({"label": "lable"}, "task.label: rows.jsonl has no column 'lable'. Did you mean 'label'?"),
        ({"inputs": {"text": "label"}}, "task.inputs.text: row 1 of rows.jsonl has 0 in 'label', not a text"),
    ],
    ids=["text", "label", "number"],
)
def test_columns_that_are_not_there_are_named_with_those_that_are(
    changes: dict[str, Any], said: str, rows: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        task_of(rows, **changes)
    assert said in str(caught.value)


def test_all_that_lacks_is_said_at_once(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluate.config.HF_EVALUATE_OFFLINE", True)
    with pytest.raises(UsageError) as caught:
        task_of(rows, label="lable", inputs={"text": "txt"}, metric="acuracy")
    for said in ("no column 'lable'", "no column 'txt'", "'acuracy' is not built in"):
        assert said in str(caught.value)


def test_a_file_that_is_not_there_or_no_rows_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"task\.data: there is no file .*JSONL, CSV or Parquet"):
        task_of(tmp_path / "no.csv")
    (tmp_path / "bad.jsonl").write_text("{'a': 1}\n")
    with pytest.raises(UsageError, match=r"task\.data: .*line 1 is no JSON"):
        task_of(tmp_path / "bad.jsonl")
    with pytest.raises(UsageError, match=r"has 1 rows, of which 0 for 'select'|of which 1 for 'select'"):
        task_of(write_rows(tmp_path / "few.jsonl", ROWS[:1]))


def test_a_data_set_that_cannot_be_reached_is_named_with_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr("datasets.load_dataset", offline)
    with pytest.raises(UsageError, match=r"'org:sst2:test' can't be read: no network.*hub can be reached"):
        task_of("org", config="sst2")


def test_labels_are_numbers_or_classes_that_the_model_names(rows: Path, tmp_path: Path) -> None:
    named = write_rows(tmp_path / "named.jsonl", [{**row, "label": ["bad", "good"][row["label"]]} for row in ROWS])
    with pytest.raises(UsageError, match=r"task\.label: named\.jsonl has the label '\w+' in 'label'.*'label2id'"):
        task_of(named).fitted(tmp_path).labels("select")
    (tmp_path / "config.json").write_text(json.dumps({"label2id": {"bad": 0, "good": 1}}))
    numbers = task_of(rows).fitted(tmp_path).labels("select").numbers
    np.testing.assert_array_equal(task_of(named).fitted(tmp_path).labels("select").numbers, numbers)
    assert set(numbers.tolist()) == {0, 1}


def test_csv_and_parquet_hold_the_same_rows(rows: Path, tmp_path: Path) -> None:
    import pandas

    frame = pandas.DataFrame(ROWS)
    frame.to_csv(tmp_path / "rows.csv", index=False)
    frame.to_parquet(tmp_path / "rows.parquet")
    first, *others = (task_of(tmp_path / f"rows.{end}") for end in ("jsonl", "csv", "parquet"))
    for other in others:
        for part in PARTS:
            assert [row.texts for row in other.parts[part]] == [row.texts for row in first.parts[part]]
            np.testing.assert_array_equal(other.labels(part).numbers, first.labels(part).numbers)


def test_search_and_confirmation_share_no_text_and_a_model_needs_a_tokenizer(rows: Path, tmp_path: Path) -> None:
    task = task_of(rows, limit=10)
    texts = {part: {row.texts for row in task.parts[part]} for part in PARTS}
    assert [len(texts[part]) for part in PARTS] == [10, 10]
    assert not texts["select"] & texts["confirm"]
    with pytest.raises(UsageError, match=r"evaluation\.task needs a tokenizer\.json"):
        task.fitted(tmp_path / "elsewhere")


def test_a_pair_is_one_feed_for_classes_and_two_for_a_cosine(rows: Path, tmp_path: Path) -> None:
    pair = {"inputs": {"text": ["text", "other"]}, "limit": 4}
    (file, count), *_ = task_of(rows, **pair).fitted(tmp_path).write("select", tmp_path, IDS)
    assert count == 4
    assert read_feeds(file)[0]["input_ids"].shape == (1, 3)
    cosine = task_of(rows, **pair, label="near", metric="spearmanr", prediction="cosine").fitted(tmp_path)
    (file, count), *_ = cosine.write("select", tmp_path, IDS)
    assert count == 8
    assert [feed["input_ids"].shape for feed in read_feeds(file)[:2]] == [(1, 2), (1, 1)]


def test_words_in_a_list_are_one_feed_and_scored_at_their_first_tokens(rows: Path, tmp_path: Path) -> None:
    words = [{"text": [f"w{i}", f"w{i + 1}"], "label": [i % 2, 1]} for i in range(20)]
    task = task_of(write_rows(tmp_path / "words.jsonl", words), prediction="tokens").fitted(tmp_path)
    labels = task.labels("select")
    assert set(labels.counts) == {2}
    assert set(labels.positions) == {(0, 1)}
    (file, _), *_ = task.write("select", tmp_path, IDS)
    assert read_feeds(file)[0]["input_ids"].shape == (1, 2)
    with pytest.raises(UsageError, match=r"row 1 of rows\.jsonl has 'w0 w1' in 'text', not words in a list"):
        task_of(rows, prediction="tokens")


def test_graphs_that_take_no_text_of_any_length_are_refused(rows: Path, tmp_path: Path) -> None:
    task = task_of(rows).fitted(tmp_path)
    with pytest.raises(UsageError, match=r"input_ids \[1, 128\], where a row is one text of any length"):
        task.write("select", tmp_path, (GraphInput("input_ids", "int64", (1, 128), 50),))


def test_a_metric_that_is_smaller_for_better_predictions_is_refused(rows: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(
        "import datasets\nimport evaluate\n\n\nclass Wrong(evaluate.Metric):\n    def _info(self):\n"
        '        value = datasets.Value("int64")\n        features = {"predictions": value, "references": value}\n'
        '        return evaluate.MetricInfo(description="", citation="", features=datasets.Features(features))\n\n'
        "    def _compute(self, predictions, references):\n"
        '        return {"wrong": sum(a != b for a, b in zip(predictions, references)) / len(references)}\n'
    )
    with pytest.raises(UsageError, match=r"task\.metric: .*larger for better ones"):
        task_of(rows, metric=str(tmp_path / "wrong.py")).fitted(tmp_path)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, its tokenizer, and rows that the float graph has all right."""
    folder = tmp_path_factory.mktemp("task")
    tiny_tokenizer(folder)
    write_rows(folder / "rows.jsonl", labelled_rows(tiny_graph(folder / "tiny.onnx")))
    return folder


def study_yaml(home: Path, task: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    raw = tiny_plain_yaml(home / "tiny.onnx", **changes)
    raw["evaluation"]["task"] = {"data": str(home / "rows.jsonl"), "inputs": {"text": "text"}, **task}
    return raw


def test_a_front_is_limited_by_the_task(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = {"precision": ["int8", "int4"], "activations": "float", "block_size": 32}
    limits = {"constraints": ["task_drop <= 2.5%"], "select": {"where": ["task_score >= 0.95"]}}
    (home / "study.yaml").write_text(yaml.safe_dump(study_yaml(home, {}, space=space, **limits)))
    out = home / "out"
    assert main(["run", str(home / "study.yaml"), "--out", str(out)]) == 0
    base, *candidates = StudyDir.open(out).trials()
    assert base.value("task_score") == 1
    assert base.value("task_drop") == 0
    assert base.metrics["task_score"].low < 1
    by_precision = {record.params["precision"]: record for record in candidates}
    assert by_precision["int8"].feasible
    assert by_precision["int4"].state == "infeasible"
    assert by_precision["int4"].reason.startswith("task_drop <= 0.025 is broken")
    assert "latency_ms" not in by_precision["int4"].metrics, "what breaks a limit is not timed"
    for record in candidates:
        assert record.value("task_drop") == pytest.approx(1 - record.value("task_score"))
        assert record.metrics["task_score"].protocol["data"] == "rows.jsonl"

    with (out / "front.csv").open() as stream:
        (row,) = csv.DictReader(stream)
    assert row["selected"] == "True"
    assert float(row["task_score"]) >= 0.95
    assert {"task_score_low", "task_score_high", "task_score_search", "task_drop", "task_drop_high"} <= set(row)
    confirmed = json.loads((out / "selection.json").read_text())["confirmed"][row["trial"]]
    assert confirmed["task_score"]["protocol"]["split"] == "confirm"
    assert confirmed["task_score"]["protocol"]["rows_key"] != base.metrics["task_score"].protocol["rows_key"]
    assert "task score" in (out / "report.html").read_text()
    capsys.readouterr()
    assert main(["trials", str(out)]) == 0
    assert "task score" in " ".join(capsys.readouterr().out.split())


def test_a_study_maximizes_a_correlation_of_cosines(home: Path) -> None:
    task = {"inputs": {"text": ["text", "other"]}, "label": "near", "metric": "spearmanr", "prediction": "cosine"}
    space = {"precision": ["int8", "int4"], "activations": "float", "block_size": 32}
    raw = study_yaml(home, task, space=space, objectives=["latency_ms", "task_score"])
    (home / "cosine.yaml").write_text(yaml.safe_dump(raw))
    assert main(["run", str(home / "cosine.yaml"), "--out", str(home / "cosine")]) == 0
    base, *candidates = StudyDir.open(home / "cosine").trials()
    assert base.value("task_score") == pytest.approx(1)
    assert all(0.5 < record.value("task_score") < 1 for record in candidates)


def test_a_missing_column_ends_validate_plan_and_run_before_anything_is_built(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "wrong.yaml").write_text(yaml.safe_dump(study_yaml(home, {"label": "lable"})))
    for command in (["validate"], ["plan"], ["run", "--out", str(home / "none")]):
        assert main([command[0], str(home / "wrong.yaml"), *command[1:]]) == 2
        assert "rows.jsonl has no column 'lable'. Did you mean 'label'" in " ".join(capsys.readouterr().err.split())
    assert not (home / "none" / "requests").exists()
