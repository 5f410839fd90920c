"""A study stays with the model that it began with, whatever happens to the branch or the folder meanwhile."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_hub import COMMIT, NAME, FakeHub
from rich.console import Console
from study_folder import record
from tiny_study import tiny_config, write_text

from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import UsageError
from olivine.passes.sources.source import Source
from olivine.passes.store.atomic_files import write_atomic
from olivine.search.cli.main import parser
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.export import trial as single
from olivine.search.export.folder import rebuild_command
from olivine.search.report.progress import LineOutput
from olivine.search.study import open as opening
from olivine.search.study.finish import about_model
from olivine.search.study.source_identity import refuse_other_model
from olivine.search.study_dir import StudyDir

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
    with opening._folder_of(config, folder, LineOutput(Console(quiet=True))) as source:
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


def exported(folder: StudyDir, monkeypatch: pytest.MonkeyPatch) -> tuple[Source, dict[str, Any]]:
    """What ``olivine export --trial 1`` builds, and what its manifest would say."""
    monkeypatch.setattr(single, "build_recipe", lambda source, *rest: single.BuiltRecipe(source, None, None, ()))
    monkeypatch.setattr(single, "export_model", lambda artifact, to, about, *rest, **options: (artifact, about))
    monkeypatch.setattr(single, "front_picture", lambda study: "")
    source_and_manifest: Any = single.export_trial(folder, 1, folder.root / "exported", False)
    return source_and_manifest


def test_an_export_builds_the_commit_that_was_measured_and_says_so(
    hub: FakeHub, configured: Callable[..., LanguageStudyConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, folder = configured(NAME, trust_remote_code=True), StudyDir(tmp_path / "study")
    opened(config, folder)
    measured(folder, 0, 1)
    hub.commit = MOVED
    source, about = exported(folder, monkeypatch)
    assert source.revision == about["model"]["revision"] == COMMIT
    assert f"--revision {COMMIT} --trust-remote-code" in about["rebuild"]


def test_the_selected_model_names_the_commit_that_was_measured(
    hub: FakeHub, configured: Callable[..., LanguageStudyConfig], tmp_path: Path
) -> None:
    config, folder = configured(NAME, revision="main"), StudyDir(tmp_path / "study")
    opened(config, folder)
    measured(folder, 0, 1)
    search: Any = SimpleNamespace(config=config, folder=folder)
    about = about_model(search, folder.trial(1), {})
    assert about["rebuild"].startswith(f"olivine build {NAME} --to DIR --revision {COMMIT} --set")


@pytest.mark.parametrize("again", ["run", "export"])
def test_a_checkpoint_that_was_trained_further_is_refused(
    again: str,
    tiny_llama: Path,
    configured: Callable[..., LanguageStudyConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
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
    with pytest.raises(UsageError, match=r"its files have changed.*--out"):
        opened(config, folder) if again == "run" else exported(folder, monkeypatch)
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
    command = rebuild_command("my models/$one", None, False, {"precision": "int8"})
    words = shlex.split(command.replace("DIR", "to"))
    assert "--revision" not in command
    assert "--trust-remote-code" not in command
    assert parser().parse_args(words[1:]).model == "my models/$one"
