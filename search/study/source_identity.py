"""The model and data that a study was measured with: a hub model at the commit it began with, all else unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olivine.passes.errors import UsageError
from olivine.search.environment import installed
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.workload import AnyWorkload

#: Kinds of models whose bytes depend on the libraries that convert them, and these libraries.
CONVERTED, CONVERTERS = ("demo", "gguf", "encoder"), ("olivine", "transformers", "torch", "gguf")


def measured_source(workload: AnyWorkload, folder: StudyDir) -> Any:
    """The source that the records in a folder were measured with.

    A hub model is now at the commit in environment.json: its branch may have moved since.

    Raises:
        UsageError: when the model is another one by now.
        SourceError: when it can't be now or exported.
    """
    model, before = workload.config.model, folder.model()
    of_hub = before.get("kind") == "hub" and not Path(model).expanduser().exists()
    source = workload.source(before["revision"] if of_hub else None)
    refuse_other_model(folder, model, source.about())
    return source


def refuse_other_model(folder: StudyDir, model: str, now: Mapping[str, Any]) -> None:
    """Refuse to mix measurements of two models; ``now`` describes ``model`` as environment.json does.

    Raises:
        UsageError: naming the change.
    """
    before = folder.model()
    if before.get("key", now["key"]) == now["key"]:
        return
    raise UsageError(
        f"{folder.root} was measured with another '{model}' than there is now: {_change(folder, now)}. Bring back "
        "what it was measured with, or begin anew in another folder ('olivine run': --out, 'olivine optimize': --to)."
    )


def refuse_other_data(folder: StudyDir, digests: Mapping[str, str]) -> None:
    """Refuse to mix measurements on two texts; ``digests`` are those of the data now, by their keys in the config.

    Raises:
        UsageError: naming the keys whose content has changed. Version 0.1.0 kept no digests.
    """
    before = folder.environment().get("data", {})
    changed = [key for key, digest in digests.items() if before.get(key, digest) != digest]
    if changed:
        raise UsageError(
            f"{folder.root} was measured on other data than {', '.join(changed)} holds now: its text or rows "
            "have changed. Bring them back, or begin anew in another folder ('olivine run': --out, 'olivine "
            "optimize': --to)."
        )


def _change(folder: StudyDir, now: Mapping[str, Any]) -> str:
    """Name the change that makes it another model, as far as can be told from outside."""
    before, versions = folder.model(), folder.environment().get("versions", {})
    if before["kind"] != now["kind"]:
        return f"it was of kind '{before['kind']}' and is of kind '{now['kind']}'"
    if now["kind"] == "hub":
        return "trust_remote_code is set otherwise, which takes other files of it"
    if now["kind"] not in CONVERTED:
        return "its files have changed"
    moved = [
        f"{name} {versions[name]} is now {installed(name)}"
        for name in CONVERTERS
        if versions.get(name, installed(name)) != installed(name)
    ]
    details = f" ({', '.join(moved)})" if moved else ""
    return f"its files, or the libraries that convert them{details}, have changed"
