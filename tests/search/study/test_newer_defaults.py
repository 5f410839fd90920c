"""Defaults that are newer than 0.1.0: new studies and builds have them, study folders of before go on without."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
import yaml
from tiny_study import tiny_config, tiny_yaml, write_text

from olivine.passes.catalog import LANGUAGE
from olivine.passes.transforms.prune_head import PruneHead, is_pruned
from olivine.search.cli.main import main
from olivine.search.config.load import parse_config
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.language import base_choice
from olivine.search.workloads.newer_defaults import AIM, begin_config, begun_values, resume_config, study_config

OLD = Path(__file__).parent / "study-0.1.0"


@pytest.fixture
def old_study(tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder that 0.1.0 left, with the YAML, the model and the text that it is about, in this folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_llama, tmp_path / "models" / "tiny")
    write_text(tmp_path / "text.txt")
    raw = tiny_yaml(Path("models/tiny"), Path("text.txt"), calibration={"windows": 16, "window_tokens": 512})
    Path("tiny.yaml").write_text(yaml.safe_dump(raw))
    study = Path(shutil.copytree(OLD, tmp_path / "study"))
    environment = json.loads((study / "environment.json").read_text())
    del environment["model"]  # the tiny checkpoint's bytes depend on the libraries that make it
    (study / "environment.json").write_text(json.dumps(environment))
    return study


def pruned_source(tiny_onnx: Path, to: Path) -> Path:
    """A folder whose graph computes the logits of the last position only."""
    shutil.copytree(tiny_onnx, to)
    model = ir.load(to / "model.onnx")
    PruneHead().rewire(model)
    ir.save(model, to / "model.onnx")
    return to


def test_a_new_study_that_does_not_name_it_prunes_the_head_of_base_and_candidates(
    tiny_llama: Path, tmp_path: Path
) -> None:
    config, note = begin_config(tiny_config(tiny_llama, tmp_path / "text.txt"))
    assert (config.space["prune_head"], note) == (True, "")
    assert base_choice(config)["prune_head"] is True  # type: ignore[arg-type]
    assert "prune_head: true" in config.to_yaml()


def test_a_study_that_wants_all_logits_says_so(tiny_llama: Path, tmp_path: Path) -> None:
    asked = tiny_config(tiny_llama, tmp_path / "text.txt", space={"precision": ["int8", "int4"], "prune_head": False})
    assert begin_config(asked) == (asked, "")


LIMIT = {"metric": "tpot_ms", "where": ["perplexity_ratio <= 1.05"]}


@pytest.mark.parametrize(
    ("changes", "aim"),
    [({}, None), ({"select": LIMIT}, "goal"), ({"select": LIMIT, "sampler": {"aim": "front"}}, "front")],
)
def test_a_new_study_whose_selection_has_a_limit_aims_at_it_unless_it_says_front(
    changes: dict[str, Any], aim: str | None, tiny_llama: Path, tmp_path: Path
) -> None:
    config, _ = begin_config(tiny_config(tiny_llama, tmp_path / "text.txt", **changes))
    assert config.sampler.aim == aim
    assert ("aim:" in config.to_yaml()) is (aim is not None)


def test_a_study_of_before_keeps_to_the_front_with_its_limit(tiny_llama: Path, tmp_path: Path) -> None:
    asked = tiny_config(tiny_llama, tmp_path / "text.txt", select=LIMIT)
    assert resume_config(asked, begun_values(asked)) == asked
    front = asked.model_copy(update={"sampler": asked.sampler.model_copy(update={"aim": "front"})})
    assert resume_config(front, begun_values(asked)) == asked
    begun = begin_config(asked)[0]
    assert resume_config(asked, begun_values(begun)) == begun


@pytest.mark.parametrize("value", [True, False])
def test_choices_that_come_first_may_say_it_for_the_study(value: bool, tiny_llama: Path, tmp_path: Path) -> None:
    first = [{"precision": "int8", "prune_head": value}, {"precision": "int4"}]
    config, _ = begin_config(tiny_config(tiny_llama, tmp_path / "text.txt", enqueue=first))
    assert config.space["prune_head"] is value


def test_a_graph_study_has_no_such_axis(tmp_path: Path) -> None:
    raw = {"model": "m.onnx", "space": {"precision": ["fp32", "int8"]}, "inputs": {"shapes": {"s": {"sequence": 16}}}}
    config = parse_config(raw, "graph.yaml")
    assert begin_config(config) == (config, "")
    assert begun_values(config) == {AIM: None}


def test_a_machine_without_memory_for_the_second_model_gets_a_note_instead_of_a_refusal(
    tiny_llama: Path, tmp_path: Path
) -> None:
    asked = tiny_config(tiny_llama, tmp_path / "text.txt")
    config, note = begin_config(asked, lambda config: config.space["prune_head"] is False)
    assert config.space["prune_head"] is False
    assert "no memory" in note
    assert begin_config(asked, lambda config: False)[0].space["prune_head"] is True  # refused later, as it was before


@pytest.mark.parametrize("kind", ["pruned already", "another head"])
def test_a_graph_that_can_not_be_pruned_falls_back_with_a_note_and_an_explicit_value_stays(
    kind: str, tiny_onnx: Path, tmp_path: Path
) -> None:
    folder = pruned_source(tiny_onnx, tmp_path / "graph")
    if kind == "another head":
        shutil.copytree(tiny_onnx, folder, dirs_exist_ok=True)
        model = ir.load(folder / "model.onnx")
        next(node for node in model.graph if (node.name or "").startswith("/lm_head/MatMul")).op_type = "Gemm"
        ir.save(model, folder / "model.onnx")
    config, note = begin_config(tiny_config(folder, tmp_path / "text.txt"))
    assert config.space["prune_head"] is False
    assert str(folder) in note
    assert "last position only already" in note if kind == "pruned already" else "no head is found" in note
    asked = tiny_config(folder, tmp_path / "text.txt", space={"precision": ["int8", "int4"], "prune_head": True})
    assert begin_config(asked) == (asked, "")


def test_a_float_graph_whose_head_is_known_is_pruned(tiny_onnx: Path, tmp_path: Path) -> None:
    config, note = begin_config(tiny_config(tiny_onnx, tmp_path / "text.txt"))
    assert (config.space["prune_head"], note) == (True, "")


@pytest.mark.usefixtures("olivine_cache")
def test_a_study_of_a_pruned_graph_runs_as_it_did_before(
    tiny_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, text = pruned_source(tiny_onnx, tmp_path / "graph"), write_text(tmp_path / "text.txt")
    space = {"precision": "int8", "block_size": [16, 32]}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny_yaml(folder, text, space=space, stop={"trials": 1})))
    assert main(["run", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "study")]) == 0
    assert "prune_head is false" in " ".join(capsys.readouterr().out.split())
    assert [record.state for record in StudyDir.open(tmp_path / "study").trials()] == ["complete", "complete"]
    assert main(["build", str(folder), "--to", str(tmp_path / "built"), "--set", "precision=int8"]) == 0
    assert is_pruned(tmp_path / "built")
    assert "prune_head" not in capsys.readouterr().out  # a build has no newer default that could be left out
    forced = ["build", str(folder), "--to", str(tmp_path / "forced"), "--set", "prune_head=true"]
    assert main(forced) != 0
    assert "last position only already" in capsys.readouterr().err


@pytest.mark.usefixtures("olivine_cache")
def test_a_build_gives_all_logits_unless_it_is_told_to_prune_the_head(tiny_llama: Path, tmp_path: Path) -> None:
    for name, more in (("pruned", ["--set", "prune_head=true"]), ("whole", [])):
        command = ["build", str(tiny_llama), "--to", str(tmp_path / name), "--set", "precision=int8", *more]
        assert main(command) == 0
        assert is_pruned(tmp_path / name) is (name == "pruned")
        rebuild = json.loads((tmp_path / name / "olivine.json").read_text())["rebuild"]
        assert f"--set prune_head={str(name == 'pruned').lower()}" in rebuild


def test_a_study_folder_of_0_1_0_is_resumed_without(old_study: Path) -> None:
    asked = parse_config(yaml.safe_load(Path("tiny.yaml").read_text()), "tiny.yaml")
    for space in (asked.space, {**asked.space, "prune_head": False}):
        config, note = study_config(asked.model_copy(update={"space": space}), StudyDir(old_study))
        assert (config.space, note) == (asked.space, "")
    named = asked.model_copy(update={"space": {**asked.space, "prune_head": True}})
    assert study_config(named, StudyDir(old_study))[0] == named  # which is refused as another study


@pytest.mark.usefixtures("olivine_cache")
def test_a_study_of_0_1_0_goes_on_with_the_recipes_that_it_would_have_had(
    old_study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in (old_study / "trials").iterdir()}
    assert main(["run", "tiny.yaml", "--out", str(old_study), "--trials", "4"]) == 0
    study = StudyDir.open(old_study)
    records = study.trials()
    assert [record.number for record in records] == [0, 1, 2, 3, 4]
    assert all((old_study / "trials" / name).read_bytes() == content for name, content in before.items())
    assert {step.name for record in records for step in record.recipe.steps} == {
        step["name"] for content in before.values() for step in json.loads(content)["recipe"]
    }
    space = parse_config(yaml.safe_load(Path("tiny.yaml").read_text()), "tiny.yaml").search_space()
    keys = {LANGUAGE.compose(choice).key for choice in space.enumerate() or ()}
    assert {record.recipe_key for record in records[1:]} <= keys
    assert not is_pruned(study.best_path)

    assert main(["report", str(old_study)]) == 0
    assert main(["export", str(old_study), "--trial", "2", "--to", "exported"]) == 0
    assert not is_pruned(Path("exported"))
    assert "--set prune_head=false" in json.loads(Path("exported/olivine.json").read_text())["rebuild"]


def test_a_worker_takes_what_the_study_was_begun_with(tiny_llama: Path, tmp_path: Path) -> None:
    asked = tiny_config(tiny_llama, tmp_path / "text.txt")
    assert resume_config(asked, {"prune_head": True}).space["prune_head"] is True
    assert resume_config(asked, {"prune_head": None}) == asked
    assert resume_config(asked, {}) == asked  # led by a version that knew no such default
