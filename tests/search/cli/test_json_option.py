"""``--json`` on the command line: where the answer goes, and what else goes there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tiny_study import tiny_yaml, write_text

from olivine.passes.providers import PROVIDERS
from olivine.search.answers.machine import Doctor, ModelSupport
from olivine.search.answers.planned import Recipes, StudyPlan, Validity
from olivine.search.cli.json_option import json_words
from olivine.search.cli.main import main
from olivine.search.planning.machine_speed import Room


@pytest.fixture
def config(tiny_llama: Path, tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    raw = tiny_yaml(tiny_llama, write_text(tmp_path / "text.txt"), stop={"trials": 2})
    path.write_text(yaml.safe_dump(raw))
    return path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("trials study --json", "trials study --json=-"),
        ("trials --json study", "trials --json=- study"),
        ("doctor --json org/model", "doctor --json=- org/model"),
        ("plan --json - a.yaml", "plan --json=- a.yaml"),
        ("plan a.yaml --json plan.json", "plan a.yaml --json=plan.json"),
        ("plan a.yaml --json /dev/stdout --set x=1", "plan a.yaml --json=/dev/stdout --set x=1"),
        ("bench a b --json out.txt", "bench a b --json=out.txt"),
        ("bench a b --json --rounds 5", "bench a b --json=- --rounds 5"),
        ("--debug bench --json . b", "--debug bench --json=- . b"),
        ("bench a --json=out", "bench a --json=out"),
        ("plan -- --json", "plan -- --json"),
    ],
)
def test_the_word_after_the_option_is_a_file_only_where_it_looks_like_one(words: str, said: str) -> None:
    assert json_words(words.split()) == said.split()


def test_a_valid_study_and_one_with_mistakes_are_told_alike(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", str(config), "--json"]) == 0
    valid = Validity.model_validate_json(capsys.readouterr().out)
    assert (valid.valid, valid.name, valid.mistakes) == (True, "tiny", [])
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("model: m\nspace: {precision: [int3, int4]}\nobjectives: [tpot]\n")
    assert main(["validate", str(wrong), "--json"]) == 2
    said = capsys.readouterr()
    invalid = Validity.model_validate_json(said.out)
    told = {mistake.place: mistake.message for mistake in invalid.mistakes}
    assert "Did you mean 'int4'" in told["space.precision"]
    assert f"{wrong}: {len(told)} mistakes" in said.err
    assert main(["validate", str(tmp_path / "none.yaml"), "--json"]) == 2
    missing = Validity.model_validate_json(capsys.readouterr().out)
    assert [mistake.place for mistake in missing.mistakes] == [""]


def test_a_plan_has_counts_and_needs_and_says_what_is_lacking_with_exit_code_2(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(config), "--json"]) == 0
    said = capsys.readouterr()
    plan = StudyPlan.model_validate_json(said.out)
    assert (plan.candidates, plan.trials, plan.fits, plan.lacks) == (6, 2, True, [])
    assert plan.needs is not None
    assert plan.needs.ram_bytes > plan.needs.largest_bytes > 0
    assert "distinct candidates" in said.err
    monkeypatch.setattr(Room, "at", lambda folder: Room(ram_bytes=1, disk_bytes=10**12))
    assert main(["plan", str(config), "--json"]) == 2
    said = capsys.readouterr()
    lacking = StudyPlan.model_validate_json(said.out)
    assert lacking.fits is False
    assert "not enough memory" in lacking.lacks[0]
    assert "does not fit this machine" in said.err


def test_ready_studies_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "list", "--json"]) == 0
    listed = Recipes.model_validate_json(capsys.readouterr().out).root
    assert "qwen/cpu" in [recipe.name for recipe in listed]
    assert all(Path(recipe.path).is_file() and recipe.purpose for recipe in listed)


def test_a_machine_and_a_model_are_examined(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("olivine.search.planning.doctor.PROVIDERS", {"cpu": PROVIDERS["cpu"]})
    assert main(["doctor", "--json"]) == 0
    doctor = Doctor.model_validate_json(capsys.readouterr().out)
    assert [(provider.provider, provider.state) for provider in doctor.providers] == [("cpu", "works")]
    assert doctor.machine.ram_bytes > doctor.machine.free_ram_bytes > 0
    assert doctor.versions["onnxruntime-genai"]
    assert main(["doctor", "--json", str(tiny_llama)]) == 0
    support = ModelSupport.model_validate_json(capsys.readouterr().out)
    assert (support.architecture, support.supported) == ("LlamaForCausalLM", True)
    assert "float graph" in [fact.name for fact in support.facts]


def test_what_libraries_and_children_print_does_not_reach_the_answer(tmp_path: Path) -> None:
    program = (
        "import os, subprocess, sys\n"
        "from olivine.search.cli import main as cli\n"
        "from olivine.search.cli.commands import recipes\n"
        "from olivine.search.planning import ready_studies\n"
        "studies = ready_studies.ready_studies\n"
        "def noisy():\n"
        "    print('printed')\n"
        "    os.write(1, b'written')\n"
        "    subprocess.run(['echo', 'said by a child'])\n"
        "    return studies()\n"
        "ready_studies.ready_studies = noisy\n"
        "sys.exit(cli.main(['recipes', 'list', '--json']))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert json.loads(done.stdout)
    for words in ("printed", "written", "said by a child", "qwen/cpu"):
        assert words in done.stderr


def test_an_error_leaves_standard_output_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(tmp_path), "--json"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "no study folder" in said.err
