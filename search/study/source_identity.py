"""The model that a study was measured with: a hub model at the commit it began with, any other one unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olivine.passes.errors import UsageError
from olivine.passes.sources.source import Source, resolve
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.environment import describe_model, installed
from olivine.search.study_dir import StudyDir

#: Kinds of models whose bytes depend on the libraries that convert them, and these libraries.
CONVERTED, CONVERTERS = ("demo", "gguf", "encoder"), ("olivine", "transformers", "torch", "gguf")


def measured_source(config: LanguageStudyConfig, folder: StudyDir) -> Source:
    """The model that the records in a folder were measured with.

    A hub model is found at the commit in environment.json: its branch may have moved since.

    Raises:
        UsageError: when the model is another one by now.
        SourceError: when it can't be found or exported.
    """
    revision, before = config.revision, folder.model()
    if before.get("kind") == "hub" and not Path(config.model).expanduser().exists():
        revision = before["revision"]
    source = resolve(config.model, revision=revision, trust_remote_code=config.trust_remote_code)
    refuse_other_model(folder, config.model, describe_model(source))
    return source


def refuse_other_model(folder: StudyDir, model: str, found: Mapping[str, Any]) -> None:
    """Refuse to mix measurements of two models; ``found`` is what environment.json would say of ``model`` now.

    Raises:
        UsageError: saying what changed.
    """
    before = folder.model()
    if before.get("key", found["key"]) == found["key"]:
        return
    raise UsageError(
        f"{folder.root} was measured with another '{model}' than there is now: {_change(folder, found)}. Bring back "
        "what it was measured with, or begin anew in another folder ('olivine run': --out, 'olivine optimize': --to)."
    )


def _change(folder: StudyDir, found: Mapping[str, Any]) -> str:
    """What makes it another model, as far as can be told from outside."""
    before, versions = folder.model(), folder.environment().get("versions", {})
    if before["kind"] != found["kind"]:
        return f"it was of kind '{before['kind']}' and is of kind '{found['kind']}'"
    if found["kind"] == "hub":
        return "trust_remote_code is set otherwise, which takes other files of it"
    if found["kind"] not in CONVERTED:
        return "its files have changed"
    moved = [
        f"{name} {versions[name]} is now {installed(name)}"
        for name in CONVERTERS
        if versions.get(name, installed(name)) != installed(name)
    ]
    said = f" ({', '.join(moved)})" if moved else ""
    return f"its files, or the libraries that convert them{said}, have changed"
