"""``olivine build``: build and export one recipe, without a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import UsageError
from olivine.passes.sources.source import resolve
from olivine.passes.store.cache import Cache, cache_root
from olivine.search.builds.calibration_text import CalibrationText
from olivine.search.config.space_mistakes import choice_mistakes
from olivine.search.config.yaml_file import read_value
from olivine.search.export.folder import check_target, export_model, rebuild_command
from olivine.search.export.trial import build_manifest, build_recipe


@dataclass(frozen=True)
class BuildRequest:
    """A model and the recipe to build of it.

    Attributes:
        model: what :func:`olivine.passes.sources.source.resolve` takes.
        settings: axis -> value as a YAML writes it; axes that are not named keep their default.
        revision: branch, tag or commit of a hub model.
        trust_remote_code: run code that the checkpoint brings.
        calibration: text that the recipe learns from, where it has such a pass.
    """

    model: str
    settings: Mapping[str, str]
    revision: str | None = None
    trust_remote_code: bool = False
    calibration: CalibrationText = field(default_factory=CalibrationText)


def build_one(request: BuildRequest, to: Path, force: bool) -> Path:
    """Build the recipe of a request and export it to ``to``; with ``force`` also over an earlier export.

    Raises:
        UsageError: for an unknown axis or value, or an existing folder.
        SourceError: when the model can't be found or exported.
        BuildFailed: when it does not build or run.
    """
    check_target(to, force)
    choice: dict[str, Scalar] = {name: read_value(name, text) for name, text in request.settings.items()}
    if mistakes := choice_mistakes(choice, "--set", {}, LANGUAGE):
        raise UsageError("\n".join(f"{place}: {message}" for place, message in mistakes))
    source = resolve(request.model, revision=request.revision, trust_remote_code=request.trust_remote_code)
    recipe = LANGUAGE.compose(choice)
    built = build_recipe(source, recipe, Cache(cache_root()), request.calibration)
    threads = next(step.params["threads"] for step in recipe.steps if step.name == "session_options")
    pinned = {**choice, "threads": threads}
    rebuild = rebuild_command(request.model, source.revision, request.trust_remote_code, pinned, built.calibration)
    return export_model(built.artifact, to, build_manifest(source, recipe, built, rebuild), force)
