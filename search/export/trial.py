"""``olivine export``: a trial of a study, built again and exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olivine.passes.artifact import ModelArtifact
from olivine.passes.errors import UsageError
from olivine.passes.parity.proof import notes_among, proof_among
from olivine.passes.recipe import Recipe
from olivine.passes.sources.source import Source
from olivine.passes.store.cache import Cache, scratch_folder
from olivine.search.builds.builder import Builder
from olivine.search.builds.cache import cache_of
from olivine.search.builds.calibration_text import Calibration, CalibrationText
from olivine.search.config.load import language_config, load_config
from olivine.search.environment import HARDWARE, describe_environment
from olivine.search.export.folder import check_target, export_model, rebuild_command
from olivine.search.records import TrialRecord, metrics_json
from olivine.search.report.plots.front_svg import front_picture
from olivine.search.study.finish import pinned_choice
from olivine.search.study.source_identity import measured_source
from olivine.search.study_dir import StudyDir

TIMEOUT_S = 24 * 3600.0


def export_trial(study: StudyDir, number: int | None, to: Path, force: bool) -> Path:
    """Export a trial of a study; the selected one where no number is given.

    Raises:
        UsageError: when the study has no such trial, or selected none, or its model has changed since.
    """
    check_target(to, force)
    config = language_config(load_config(study.config_path))
    outcome = study.outcome()
    record = chosen_record(study, number)
    source = measured_source(config, study)
    cache = cache_of(config.cache, source)
    measured = outcome.confirmed.get(record.number, record.metrics)
    scores = outcome.tasks.measured.get(record.number, {}) if outcome.tasks else {}
    recipe = record.recipe

    built = build_recipe(source, recipe, cache, CalibrationText.of_study(config))
    choice = pinned_choice(record)
    rebuild = rebuild_command(config.model, source.revision, config.trust_remote_code, choice, built.calibration)
    reasons = {"reason": outcome.reason, "warnings": list(outcome.warnings)}
    about = {
        **build_manifest(source, recipe, built, rebuild),
        "measurements": metrics_json({**measured, **scores}, samples=False),
        "hardware": {name: study.environment()[name] for name in HARDWARE},  # that measured it
        "study": {"name": config.name, "trial": record.number},
        **({"selection": reasons} if record.number == outcome.trial else {}),
    }
    return export_model(built.artifact, to, about, force, picture=front_picture(study))


def chosen_record(study: StudyDir, number: int | None) -> TrialRecord:
    """The record of a trial that can be exported; the selected one where no number is given.

    Raises:
        UsageError: when the study has no such trial, or selected none, or it did not build.
    """
    outcome = study.outcome()
    number = outcome.trial if number is None else number
    if number is None:
        raise UsageError(f"{study.root} has selected no trial: {outcome.reason or 'it has not ended'}. Give --trial")
    record = study.trial(number)
    if record.state == "failed":
        raise UsageError(f"trial {record.number} did not build or run: {record.reason}")
    return record


@dataclass(frozen=True)
class BuiltRecipe:
    """A recipe as it was built.

    Attributes:
        artifact: the model.
        calibration: the text that it learned from, where it did.
        proof: how far the float base agrees with its checkpoint; None for a source that is a graph.
        notes: what passes left undone, as sentences.
    """

    artifact: ModelArtifact
    calibration: Calibration | None
    proof: Mapping[str, Any] | None
    notes: Sequence[str]


def build_manifest(source: Source, recipe: Recipe, built: BuiltRecipe, rebuild: str) -> dict[str, Any]:
    """The part of olivine.json that says what was built of what, without measurements."""
    environment = describe_environment(source)
    return {
        "model": environment["model"] | {"source": source.model},
        "recipe": recipe.to_json(),
        "recipe_key": recipe.key,
        "measurements": {},
        "versions": environment["versions"],
        "hardware": {name: environment[name] for name in HARDWARE},
        "rebuild": rebuild,
        **({"calibration": built.calibration.to_json()} if built.calibration else {}),
        **({"base_agreement": dict(built.proof)} if built.proof else {}),
        **({"notes": list(built.notes)} if built.notes else {}),
    }


def build_recipe(source: Source, recipe: Recipe, cache: Cache, text: CalibrationText) -> BuiltRecipe:
    """Build one recipe; where it learns from text, also return what it learned from.

    Raises:
        BuildFailed: when it does not build or run.
    """
    calibration = None
    with (
        scratch_folder("build") as requests,
        Builder(source, cache, requests, TIMEOUT_S, None) as builder,
    ):
        if recipe.needs_calibration:
            # The float graph, which the recipe goes through anyway, brings the tokenizer that cuts the text.
            calibration = text.store(builder.build(recipe.float_part(), "float").artifact, cache)
            builder.calibration = calibration.key
        outcome = builder.build(recipe, "build")
        return BuiltRecipe(outcome.artifact, calibration, proof_among(outcome.passes), notes_among(outcome.passes))
