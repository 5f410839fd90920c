"""A study stays with the model that it began with, whatever happens to the branch or the folder meanwhile."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_hub import COMMIT, NAME, FakeHub
from rich.console import Console
from study_folder import record
from tiny_study import tiny_config, write_text

from olivine.passes.artifact import ModelArtifact
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import UsageError
from olivine.passes.sources.source import Source
from olivine.passes.store.atomic_files import write_atomic
from olivine.search.cli.main import main, parser
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.export.manifest import build_command
from olivine.search.report.progress import LineOutput
from olivine.search.study.export_candidate import candidate_manifest
from olivine.search.study.open import locked_folder
from olivine.search.study.source_identity import measured_source, refuse_other_model
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.language import LanguageWorkload
from olivine.search.workloads.workload import Candidate

pytestmark = pytest.mark.usefixtures("olivine_cache")
MOVED = "beef" + "0" * 36


@pytest.fixture
def hub(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub(tiny_llama)
    fake.install(monkeypatch)
    return fake


@pytest.fixture
def configured(tmp_path: Path) -> Callable[..., LanguageStudyConfig]:
    text = write_text(tmp_path / "text.txt")
    return lambda model, **changes: tiny_config(model, text, **changes)


def opened(config: LanguageStudyConfig, folder: StudyDir) -> Source:
    with locked_folder(LanguageWorkload(config, folder), folder, LineOutput(Console(quiet=True))) as source:
        assert isinstance(source, Source)
        return source


def measured(folder: StudyDir, *numbers: int) -> None:
    """Leave records, as if trials had ended."""
    recipe = LANGUAGE.compose({"precision": "int8", "threads": 1})
    for number in numbers:
        params = {"precision": "int8"} if number else {}
        folder.write_trial(replace(record(number), params=params, recipe=recipe, recipe_key=recipe.key))


def test_a_resumed_study_stays_at_the_commit_it_began_with(
    hub: FakeHub, configured: Callable[..., LanguageStudyConfig], tmp_path: Path
) -> None:
    config, folder = configured(NAME), StudyDir(tmp_path / "study")
    first = opened(config, folder)
    measured(folder, 0, 1)
    hub.commit = MOVED
    assert opened(config, folder) == first
    assert folder.model()["revision"] == COMMIT


def test_a_study_without_a_measured_base_takes_what_the_branch_has_now(
    hub: FakeHub, configured: Callable[..., LanguageStudyConfig], tmp_path: Path
) -> None:
    config, folder = configured(NAME), StudyDir(tmp_path / "study")
    opened(config, folder)
    hub.commit = MOVED
    assert opened(config, folder).revision == MOVED


def manifest(config: LanguageStudyConfig, folder: StudyDir) -> dict[str, Any]:
    """The manifest of trial 1, built of the model that was measured."""
    workload, record = LanguageWorkload(config, folder), folder.trial(1)
    source = measured_source(workload, folder)
    candidate = Candidate(record.recipe, ModelArtifact(folder.root, "key", frozenset()))
    return candidate_manifest(workload, source, candidate, record.params, {}, {})


def test_an_export_builds_the_commit_that_was_measured_and_says_so(
    hub: FakeHub, configured: Callable[..., LanguageStudyConfig], tmp_path: Path
) -> None:
    config, folder = configured(NAME, trust_remote_code=True), StudyDir(tmp_path / "study")
    opened(config, folder)
    measured(folder, 0, 1)
    hub.commit = MOVED
    about = manifest(config, folder)
    assert about["model"]["revision"] == COMMIT
    assert f"--revision {COMMIT} --trust-remote-code" in about["rebuild"]


def test_the_selected_model_names_the_commit_that_was_measured(
    hub: FakeHub, configured: Callable[..., LanguageStudyConfig], tmp_path: Path
) -> None:
    config, folder = configured(NAME, revision="main"), StudyDir(tmp_path / "study")
    opened(config, folder)
    measured(folder, 0, 1)
    command = manifest(config, folder)["rebuild"]
    assert command.startswith(f"olivine build {NAME} --to DIR --revision {COMMIT} --set")
    assert "--set threads=1" in command


@pytest.mark.parametrize("again", ["run", "export"])
def test_a_checkpoint_that_was_trained_further_is_refused(
    again: str,
    tiny_llama: Path,
    configured: Callable[..., LanguageStudyConfig],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = Path(shutil.copytree(tiny_llama, tmp_path / "mine"))
    config, folder = configured(checkpoint), StudyDir(tmp_path / "study")
    opened(config, folder)
    measured(folder, 0, 1)
    opened(config, folder)
    before = folder.environment_path.read_bytes()
    weights = checkpoint / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    if again == "run":
        with pytest.raises(UsageError, match=r"its files have changed.*--out"):
            opened(config, folder)
    else:
        assert main(["export", str(folder.root), "--trial", "1", "--to", str(tmp_path / "exported")]) == 2
        assert "its files have changed" in " ".join(capsys.readouterr().err.split())
    assert folder.environment_path.read_bytes() == before


def test_another_trust_in_the_code_of_a_hub_model_is_named(
    hub: FakeHub, configured: Callable[..., LanguageStudyConfig], tmp_path: Path
) -> None:
    folder = StudyDir(tmp_path / "study")
    opened(configured(NAME), folder)
    measured(folder, 0)
    with pytest.raises(UsageError, match="trust_remote_code is set otherwise"):
        opened(configured(NAME, trust_remote_code=True), folder)


def test_what_converts_a_model_otherwise_by_now_is_named(tmp_path: Path) -> None:
    folder = StudyDir(tmp_path)
    model = {"name": "small", "kind": "gguf", "key": "then"}
    write_atomic(folder.environment_path, json.dumps({"model": model, "versions": {"transformers": "5.0"}}))
    with pytest.raises(UsageError, match=r"libraries that convert them \(transformers 5\.0 is now "):
        refuse_other_model(folder, "small.gguf", model | {"key": "now"})
    refuse_other_model(folder, "small.gguf", model)


def test_a_rebuild_command_survives_a_shell() -> None:
    command = build_command(LANGUAGE, "my models/$one", [], {"precision": "int8"})
    words = shlex.split(command.replace("DIR", "to"))
    assert "--revision" not in command
    assert "--trust-remote-code" not in command
    assert parser().parse_args(words[1:]).model == "my models/$one"


def test_a_study_does_not_go_on_with_another_text(
    tiny_llama: Path, configured: Callable[..., LanguageStudyConfig], tmp_path: Path
) -> None:
    config, folder = configured(tiny_llama), StudyDir(tmp_path / "study")
    opened(config, folder)
    measured(folder, 0, 1)
    text = tmp_path / "text.txt"
    words = text.read_text()
    text.write_bytes(b"\xef\xbb\xbf" + words.encode())  # the same text with a byte-order mark
    opened(config, folder)
    text.write_text(words + "\n\nOne article more.")
    with pytest.raises(UsageError, match=r"other data than evaluation\.text holds now.*--out"):
        opened(config, folder)
    text.write_text(words)
    opened(config, folder)
