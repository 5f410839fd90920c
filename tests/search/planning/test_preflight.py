from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_study import tiny_config

from olivine.passes.errors import UsageError
from olivine.search.cli.main import main
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.planning.preflight import absent_providers, require_providers

CONFIGS = Path(__file__).parents[3] / "configs"


def study(**space: Any) -> LanguageStudyConfig:
    return tiny_config(Path("model"), Path("text.txt"), space={"precision": ["int8", "int4"], **space})


def test_a_study_that_names_no_provider_asks_for_the_cpu_and_starts_no_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("subprocess.Popen", None)
    assert study().asked_providers() == ("cpu",)
    require_providers(study())
    require_providers(study(provider="cpu"))


def test_every_provider_that_does_not_run_here_is_named_with_its_remedy() -> None:
    config = study(provider=["cpu", "dml", "qnn"])
    assert config.asked_providers() == ("cpu", "dml", "qnn")
    first, second = absent_providers(config)
    assert first.startswith("provider 'dml' does not run here: missing: needs Windows")
    assert "pip install onnxruntime-qnn" in second
    with pytest.raises(UsageError) as error:
        require_providers(config)
    assert error.value.exit_code == 2
    assert str(error.value).startswith(f"{first}\n{second}\n")


@pytest.fixture
def dml_study(tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text("model: demo:smollm2-135m-instruct\nspace: {provider: dml, precision: [fp16, int4]}\n")
    return path


def test_validate_says_what_is_missing_and_calls_the_study_valid(
    dml_study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", str(dml_study)]) == 0
    said = capsys.readouterr().out
    assert "is a valid study" in said
    assert "onnxruntime-directml" in said


def test_plan_says_what_is_missing(dml_study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(dml_study)]) == 0
    assert "provider 'dml' does not run here" in capsys.readouterr().out


def test_run_ends_before_any_work(dml_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(dml_study), "--out", str(tmp_path / "out")]) == 2
    assert "onnxruntime-directml" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
