"""One candidate as a model folder: its manifest, and its build outside of a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from olivine.passes.adapters.adapter_set import AdapterSet
from olivine.passes.base import Scalar
from olivine.passes.errors import UsageError
from olivine.passes.parity.proof import notes_among, proof_among
from olivine.passes.pipeline import source_artifact
from olivine.passes.providers import PROVIDERS
from olivine.passes.recipe import Recipe
from olivine.passes.sources.source import Source as Checkpoint
from olivine.passes.store.cache import Cache
from olivine.search.builds.builder import Builder, BuildOutcome
from olivine.search.export.manifest import make_manifest
from olivine.search.records import Metrics
from olivine.search.workloads.workload import AnyWorkload, Candidate, LearnedFrom, Source

#: Longest build of a recipe that a person asked for.
TIMEOUT_S = 24 * 3600.0


def build_alone(
    workload: AnyWorkload,
    source: Source,
    recipe: Recipe,
    cache: Cache,
    requests: Path,
    folders: Mapping[str, Path] | None = None,
) -> Candidate:
    """Build one recipe outside of a search.

    Args:
        workload: of its model.
        source: its model.
        recipe: its steps.
        cache: where builds are kept.
        requests: folder for the files of the build.
        folders: name -> PEFT folder of each LoRA adapter that the model is to have places for.

    Raises:
        UsageError: when text or samples that it learns from can't be read, or do not fit the model; for an adapter that
            is no LoRA or does not fit the model, or a provider that runs none.
        BuildFailed: when it does not build.
    """
    adapters = _adapters(source, folders, cache, recipe.provider) if folders else None
    if adapters is not None:
        recipe = adapters.in_recipe(recipe)
    with Builder(partial(workload.request, source), cache, requests, TIMEOUT_S, None) as builder:
        learned = None
        if (float_recipe := workload.float_recipe(recipe)) is not None:
            learned = workload.learn_from(builder.build(float_recipe, "float").artifact, cache)
        key = None if learned is None else learned.key
        return replace(candidate_of(recipe, builder.build(recipe, "build", key), learned), adapters=adapters)


def _adapters(source: Source, folders: Mapping[str, Path], cache: Cache, provider: str) -> AdapterSet:
    """The adapters in PEFT folders, for the model of a source.

    Raises:
        UsageError: for a model that is no checkpoint, a provider that runs none, or an adapter that does not fit.
    """
    if not PROVIDERS[provider].genai:
        fitting = ", ".join(name for name, known in PROVIDERS.items() if known.genai)
        raise UsageError(
            f"--adapter: adapters run in ONNX Runtime GenAI, which can not run the provider '{provider}'. "
            f"Providers that fit: {fitting}"
        )
    if not isinstance(source, Checkpoint) or source.kind == "onnx":
        raise UsageError(
            f"--adapter: {source.model} is a graph; adapters are fitted to the checkpoint that a graph is exported from"
        )
    return AdapterSet.read(source_artifact(source, cache).path, folders)


def candidate_of(recipe: Recipe, outcome: BuildOutcome, learned: LearnedFrom | None) -> Candidate:
    """The candidate that a build made of a recipe."""
    notes = tuple(notes_among(outcome.passes))
    return Candidate(recipe, outcome.artifact, learned, proof_among(outcome.passes), notes)


def candidate_manifest(
    workload: AnyWorkload,
    source: Source,
    candidate: Candidate,
    choice: Mapping[str, Scalar],
    metrics: Metrics,
    sections: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of olivine.json, without the files.

    Args:
        workload: of the model.
        source: the model.
        candidate: that is exported.
        choice: its axis values, for the command that rebuilds it.
        metrics: its measurements.
        sections: further ones: study, selection, hardware of the machine that measured it.
    """
    recipe, learned = candidate.recipe, candidate.learned
    model = {**source.about(), "source": source.model}
    about: dict[str, Any] = {}
    if learned is not None and recipe.needs_calibration:
        about["calibration"] = learned.to_json()
    if candidate.base_agreement:
        about["base_agreement"] = dict(candidate.base_agreement)
    if candidate.notes:
        about["notes"] = list(candidate.notes)
    rebuild = rebuild_command(workload, source.revision, candidate, choice)
    return make_manifest(model, recipe, metrics, rebuild, about | dict(sections))


def rebuild_command(
    workload: AnyWorkload, commit: str | None, candidate: Candidate, choice: Mapping[str, Scalar]
) -> str:
    """The command that builds a candidate again, with the threads it ran with, not "all cores" of another machine."""
    threads = candidate.recipe.threads
    pinned = {**choice, **({} if threads is None else {"threads": threads})}
    command = workload.rebuild(commit, pinned, candidate.learned if candidate.recipe.needs_calibration else None)
    named = candidate.adapters.adapters if candidate.adapters is not None else ()
    return " ".join([command, *(f"--adapter {adapter.name}=DIR" for adapter in named)])
