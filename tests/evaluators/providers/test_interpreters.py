"""Interpreter and loop of a provider's models; and the environment that is made for it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from tiny_study import tiny_config, tiny_yaml, write_text

from olivine.evaluators.providers.interpreters import comparable_options, folder_options, interpreter, loop_of
from olivine.passes.errors import UsageError
from olivine.passes.providers import PROVIDERS
from olivine.search.cli.main import main
from olivine.search.planning.provider_environment import EnvironmentFailed, add_provider
from olivine.search.study_dir import StudyDir


@pytest.fixture
def openvino_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an environment for OpenVINO."""
    python = tmp_path / "envs" / "openvino" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)
    return python


def test_the_named_interpreter_comes_first_then_the_one_in_its_place(openvino_python: Path) -> None:
    assert interpreter("openvino", {"openvino": "/opt/ov/bin/python"}) == "/opt/ov/bin/python"
    assert Path(interpreter("openvino", {})) == Path("envs/openvino/bin/python")
    assert interpreter("cuda", {}) == sys.executable


def test_one_provider_without_genai_takes_all_of_a_study_into_a_plain_session() -> None:
    assert loop_of(["cpu", "cuda"]) == "genai"
    assert loop_of(["cpu", "openvino"]) == "session"


def test_folders_that_are_compared_run_by_one_loop(tiny_onnx: Path, openvino_python: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    config = (tiny_onnx / "genai_config.json").read_text()
    entry = '"provider_options": [{"OpenVINO": {"device_type": "CPU"}}]'
    (other / "genai_config.json").write_text(config.replace('"provider_options": []', entry))
    assert folder_options(tiny_onnx) == {"python": sys.executable, "loop": "genai"}
    assert folder_options(other)["python"] == "envs/openvino/bin/python"
    assert {each["loop"] for each in comparable_options([tiny_onnx, other]).values()} == {"session"}


def test_a_config_names_interpreters_and_mistakes_in_them_are_told(tmp_path: Path, openvino_python: Path) -> None:
    text = write_text(tmp_path / "text.txt")
    space = {"provider": ["cpu", "openvino"], "precision": "int8"}
    config = tiny_config(tmp_path, text, space=space, providers={"openvino": {"python": str(openvino_python)}})
    assert config.pythons() == {"openvino": str(openvino_python)}
    with pytest.raises(UsageError, match=r"unknown provider 'openvin'.*Did you mean 'openvino'"):
        tiny_config(tmp_path, text, providers={"openvin": {"python": str(openvino_python)}})
    with pytest.raises(UsageError, match=r"'/nowhere/python' is no program.*olivine provider add openvino"):
        tiny_config(tmp_path, text, providers={"openvino": {"python": "/nowhere/python"}})


def test_every_row_pins_what_it_installs() -> None:
    for name, row in PROVIDERS.items():
        assert name == "cpu" or row.environment
        assert all("==" in package for package in row.environment)


def test_what_needs_no_environment_and_what_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs no environment"):
        add_provider("cpu", tmp_path / "e", sys.executable, Console())
    with pytest.raises(UsageError, match="Did you mean 'openvino'"):
        add_provider("openvno", tmp_path / "e", sys.executable, Console())


#: ``PYTHON -m venv DIR`` makes an environment whose pip finds nothing.
FAILING_PYTHON = """#!/bin/sh
mkdir -p "$3/bin"
printf '#!/bin/sh\\necho no matching distribution >&2\\nexit 1\\n' > "$3/bin/python"
chmod +x "$3/bin/python"
"""


def test_half_an_environment_does_not_stay(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(FAILING_PYTHON)
    python.chmod(0o755)
    with pytest.raises(EnvironmentFailed, match="no matching distribution"):
        add_provider("openvino", tmp_path / "e", str(python), Console(quiet=True))
    assert not (tmp_path / "e").exists()


@pytest.mark.openvino
@pytest.mark.skipif(not Path("envs/openvino/bin/python").exists(), reason="'olivine provider add openvino' makes it")
def test_a_study_searches_cpu_and_openvino_together(tmp_path: Path, tiny_llama: Path) -> None:
    space = {"provider": ["cpu", "openvino"], "precision": ["int8"], "block_size": 32}
    config = tmp_path / "tiny.yaml"
    raw = tiny_yaml(tiny_llama, write_text(tmp_path / "text.txt"), space=space, stop={"trials": 2})
    config.write_text(yaml.safe_dump(raw))
    assert main(["run", str(config), "--out", str(tmp_path / "study")]) == 0
    base, *others = StudyDir.open(tmp_path / "study").trials()
    assert [record.state for record in (base, *others)] == ["complete"] * 3, [record.reason for record in others]
    assert "onnxruntime 1." in base.runtime and "plain session" in base.runtime
    ran = {record.params["provider"]: record for record in others}
    assert ran["openvino"].provider == "OpenVINOExecutionProvider"
    assert "onnxruntime-openvino 1." in ran["openvino"].runtime
    assert "onnxruntime-openvino" not in ran["cpu"].runtime
    header = (tmp_path / "study" / "front.csv").read_text().splitlines()[0]
    assert "runtime" in header.split(",")
