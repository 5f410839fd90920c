"""``olivine export``: a trial of a study as a model folder, or as a package with a script that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from olivine.passes.errors import UsageError
from olivine.passes.providers import PROVIDERS
from olivine.passes.store.cache import scratch_folder
from olivine.search.builds.study_cache import open_cache
from olivine.search.config.load import load_config
from olivine.search.environment import HARDWARE
from olivine.search.export.folder import check_target
from olivine.search.export.package import check_place, package_model
from olivine.search.records import TrialRecord
from olivine.search.report.plots.front_svg import front_picture
from olivine.search.study.export_candidate import build_alone, candidate_manifest
from olivine.search.study.source_identity import measured_source
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.registry import workload_of


def export_trial(
    study: StudyDir, number: int | None, to: Path, force: bool, adapters: Mapping[str, Path] | None = None
) -> Path:
    """Export a trial of a study; the selected one where no number is given.

    Args:
        study: of the trial.
        number: of the trial; the selected one where none is given.
        to: the folder to make.
        force: replace an earlier export.
        adapters: name -> PEFT folder of each LoRA adapter that is exported with it.

    Raises:
        UsageError: when the study has no such trial, or selected none, its model has changed since, or ``to`` exists;
            for adapters that do not fit.
    """
    config = load_config(study.config_path)
    outcome, record, environment = study.outcome(), chosen_record(study, number), study.environment()
    sections = {
        "study": {"name": config.name, "trial": record.number},
        "hardware": {name: environment[name] for name in HARDWARE},  # of the machine that measured it
    }
    if record.number == outcome.trial:
        sections["selection"] = {"reason": outcome.reason, "warnings": list(outcome.warnings)}
    metrics = dict(outcome.confirmed.get(record.number, record.metrics))
    if outcome.tasks is not None:
        metrics |= outcome.tasks.measured.get(record.number, {})
    with scratch_folder("export") as scratch:
        workload = workload_of(config, StudyDir(scratch))
        check_target(to, force, workload.exported)
        source = measured_source(workload, study)
        cache = open_cache(config.cache, workload.cache_limit(source))
        candidate = build_alone(workload, source, record.recipe, cache, scratch, adapters)
        manifest = candidate_manifest(workload, source, candidate, record.params, metrics, sections)
        return workload.export(candidate, to, manifest, front_picture(study))


def package_trial(
    study: StudyDir, number: int | None, to: Path, kind: str, force: bool, adapters: Mapping[str, Path] | None = None
) -> Path:
    """Export a trial, with a script that runs it, as a zip file or a folder for a container image; whole or absent.

    Args:
        study: of the trial.
        number: of the trial; the selected one where none is given.
        to: the zip file, or the folder with the Dockerfile.
        kind: ``zip`` or ``docker``.
        force: replace an earlier package.
        adapters: name -> PEFT folder of each LoRA adapter that is packaged with it.

    Raises:
        UsageError: for an existing file or folder, a trial that there is not, or one that GenAI can't run.
    """
    if load_config(study.config_path).kind != "language":
        raise UsageError("--package is for language models; without it, DIR holds a model.onnx for any ONNX Runtime")
    check_place(to, kind, force)
    record = chosen_record(study, number)
    provider = record.recipe.provider
    if not PROVIDERS[provider].genai:
        raise UsageError(
            f"trial {record.number} is for the provider '{provider}', which ONNX Runtime GenAI can't run, so a package "
            "of it would not answer; without --package it is exported as a folder"
        )
    return package_model(lambda folder: export_trial(study, record.number, folder, False, adapters), provider, to, kind)


def chosen_record(study: StudyDir, number: int | None) -> TrialRecord:
    """The record of a trial that can be exported; the selected one where no number is given.

    Raises:
        UsageError: when the study has no such trial, or selected none, or it did not build.
    """
    outcome = study.outcome()
    if number is None and outcome.trial is None:
        raise UsageError(f"{study.root} has selected no trial: {outcome.reason or 'it has not ended'}. Give --trial")
    record = study.trial(int(outcome.trial or 0) if number is None else number)
    if record.state == "failed":
        raise UsageError(f"trial {record.number} did not build or run: {record.reason}")
    return record
