"""One model without a search: ``olivine build`` and ``olivine export``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from olivine.passes.base import Scalar
from olivine.passes.errors import UsageError
from olivine.passes.recipe import Recipe, compose
from olivine.passes.sources.source import Source, resolve
from olivine.passes.store.cache import Cache, cache_root, scratch_folder
from olivine.search.builds.builder import Builder
from olivine.search.builds.cache import cache_of
from olivine.search.builds.calibration_text import Calibration, CalibrationText
from olivine.search.config.language import load_config
from olivine.search.config.space_mistakes import choice_mistakes
from olivine.search.environment import HARDWARE, describe_environment
from olivine.search.export.folder import check_target, export_model, rebuild_command
from olivine.search.records import StudyDir, TrialRecord
from olivine.search.report.plots.front_svg import front_picture
from olivine.search.selection.lm_eval_tasks import without_samples
from olivine.search.study.finish import pinned_choice
from olivine.search.study.source_identity import measured_source

TIMEOUT_S = 24 * 3600.0


def build_one(
    model: str,
    revision: str | None,
    trust_remote_code: bool,
    settings: Mapping[str, str],
    to: Path,
    force: bool,
    calibration: CalibrationText | None = None,
) -> Path:
    """Build the recipe that ``settings`` (axis -> YAML value) ask for and export it.

    ``calibration`` is the text that passes learn from, where the recipe has such a pass.

    Raises:
        UsageError: for an unknown axis or value, or an existing folder.
        SourceError: when the model can't be found or exported.
        BuildFailed: when it does not build or run.
    """
    check_target(to, force)
    choice: dict[str, Scalar] = {name: yaml.safe_load(text) for name, text in settings.items()}
    mistakes = choice_mistakes(choice, "--set", {})
    if mistakes:
        raise UsageError("\n".join(f"{place}: {message}" for place, message in mistakes))
    source = resolve(model, revision=revision, trust_remote_code=trust_remote_code)
    recipe = compose(choice)
    threads = next(step.params["threads"] for step in recipe.steps if step.name == "session_options")
    return _build_and_export(
        source,
        recipe,
        Cache(cache_root()),
        calibration or CalibrationText(),
        to,
        force,
        lambda found: _about(
            source,
            recipe,
            found,
            rebuild_command(model, source.revision, trust_remote_code, {**choice, "threads": threads}, found),
        ),
    )


def export_trial(study: StudyDir, number: int | None, to: Path, force: bool) -> Path:
    """Export a trial of a study; the selected one where no number is given.

    Raises:
        UsageError: when the study has no such trial, or selected none, or its model has changed since.
    """
    check_target(to, force)
    config = load_config(study.config_path)
    selection = study.selection()
    record = chosen_record(study, number)
    source = measured_source(config, study)
    cache = cache_of(config.cache, source)
    measured = dict(selection.get("confirmed", {}).get(str(record.number), record.metrics))
    measured |= selection.get("tasks", {}).get("measured", {}).get(str(record.number), {})
    recipe = Recipe.from_json(record.recipe)

    def about(found: Calibration | None) -> dict[str, Any]:
        rebuild = rebuild_command(config.model, source.revision, config.trust_remote_code, pinned_choice(record), found)
        return {
            **_about(source, recipe, found, rebuild),
            "measurements": without_samples(measured),
            "hardware": {name: study.environment()[name] for name in HARDWARE},  # that measured it
            "study": {"name": config.name, "trial": record.number},
            **({"selection": said} if record.number == selection.get("trial") else {}),
        }

    said = {"reason": selection.get("reason", ""), "warnings": selection.get("warnings", [])}
    text = CalibrationText.of_study(config)
    return _build_and_export(source, recipe, cache, text, to, force, about, front_picture(study))


def chosen_record(study: StudyDir, number: int | None) -> TrialRecord:
    """The record of a trial that can be exported; the selected one where no number is given.

    Raises:
        UsageError: when the study has no such trial, or selected none, or it did not build.
    """
    selection = study.selection()
    if number is None and selection.get("trial") is None:
        raise UsageError(
            f"{study.root} has selected no trial: {selection.get('reason', 'it has not ended')}. Give --trial"
        )
    record = study.trial(int(selection["trial"]) if number is None else number)
    if record.state == "failed":
        raise UsageError(f"trial {record.number} did not build or run: {record.reason}")
    return record


def _about(source: Source, recipe: Recipe, calibration: Calibration | None, rebuild: str) -> dict[str, Any]:
    environment = describe_environment(source)
    return {
        "model": environment["model"] | {"source": source.model},
        "recipe": recipe.to_json(),
        "recipe_key": recipe.key,
        "measurements": {},
        "versions": environment["versions"],
        "hardware": {name: environment[name] for name in HARDWARE},
        "rebuild": rebuild,
        **({"calibration": calibration.to_json()} if calibration else {}),
    }


def _build_and_export(
    source: Source,
    recipe: Recipe,
    cache: Cache,
    text: CalibrationText,
    to: Path,
    force: bool,
    about: Callable[[Calibration | None], dict[str, Any]],
    picture: str = "",
) -> Path:
    calibration = None
    with (
        scratch_folder("build") as requests,
        Builder(source, cache, requests, TIMEOUT_S, None) as builder,
    ):
        if recipe.needs_calibration:
            # The float graph, which the recipe goes through anyway, brings the tokenizer that cuts the text.
            calibration = text.store(builder.build(recipe.float_part(), "float").artifact, cache)
            builder.calibration = calibration.key
        artifact = builder.build(recipe, "build").artifact
    return export_model(artifact, to, about(calibration), force, picture=picture)
