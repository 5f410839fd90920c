"""``olivine run`` and ``export`` for studies of plain graphs."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.console import Console

from olivine.passes.catalog import GRAPH
from olivine.passes.errors import UsageError
from olivine.passes.graphs.graph_inputs import graph_inputs
from olivine.passes.graphs.source import GRAPH_FILE, resolve_graph
from olivine.passes.store.cache import scratch_folder
from olivine.search.config.graph import GraphStudyConfig
from olivine.search.export.graph_folder import export_plain
from olivine.search.records import metrics_json
from olivine.search.report.progress import watcher_for
from olivine.search.report.publish import print_summary, show
from olivine.search.report.say import say
from olivine.search.selection.select import NoCandidate
from olivine.search.study.interrupt import EXIT_INTERRUPTED, Interrupted
from olivine.search.study.source_identity import refuse_other_model
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.graph_builder import GraphBuilder
from olivine.search.workloads.graph_finish import finish, manifest
from olivine.search.workloads.graph_samples import make_samples
from olivine.search.workloads.graph_study import base_choice, cache_for, open_plain


def run_plain(
    config: GraphStudyConfig, root: Path, storage: str | None, config_path: Path, out: Console, err: Console
) -> int:
    """Run or resume the study in ``root``; returns the exit code.

    Raises:
        UsageError: for a shared storage, which such studies do not take.
        NoCandidate: when no candidate meets the constraints (exit code 3).
        OlivineError: when the model can't be found, or its base can't be built or measured.
    """
    if storage is not None:
        raise UsageError("--storage: a study of a plain graph runs in one process, with SQLite in its folder")
    folder, progress = StudyDir(root), watcher_for(out)
    try:
        with open_plain(config, folder, progress) as search:
            try:
                search.run()
                finish(search)
            except (Interrupted, KeyboardInterrupt):
                show(search.study, search.folder)
                progress.study_ended()
                say(
                    err,
                    "olivine: stopped; every finished trial is kept. Resume with:\n"
                    f"  olivine run {shlex.quote(str(config_path))} --out {shlex.quote(str(root))}",
                )
                return EXIT_INTERRUPTED
            except NoCandidate:
                show(search.study, search.folder)
                raise
            show(search.study, search.folder)
    finally:
        progress.study_ended()
    print_summary(folder, out, folder.best_path / GRAPH_FILE)
    return 0


def export_plain_trial(study: StudyDir, config: GraphStudyConfig, number: int | None, to: Path, force: bool) -> Path:
    """Export a trial, by default the selected one.

    Raises:
        UsageError: when the study has no such trial, has selected none, its model has changed, or ``to`` exists.
    """
    outcome = study.outcome()
    if number is None:
        number = outcome.trial
    if number is None:
        raise UsageError(f"{study.root} has selected no trial; name one with --trial")
    record = study.trial(number)
    if not record.feasible:
        raise UsageError(f"trial {number} is {record.state}: {record.reason}")
    source = resolve_graph(config.model, config.architecture)
    refuse_other_model(study, config.model, source.about())
    cache = cache_for(config)
    measurements = metrics_json(outcome.confirmed.get(number, record.metrics), samples=False)
    children = config.children
    with (
        scratch_folder("build") as requests,
        GraphBuilder(source, cache, requests, children.timeout, children.memory, config.sizes()) as builder,
    ):
        base = builder.build(GRAPH.compose(base_choice(config)), "base").artifact.path
        samples = make_samples(config, source.folder, graph_inputs(base / GRAPH_FILE), requests / "inputs")
        builder.calibrate = samples.path("calibrate")
        artifact = builder.build(record.recipe, "build").artifact
        about = manifest(config.name, source.about(), config.model, record, measurements)
        return export_plain(artifact.path, to, about, samples.timed, force, {"loop": "graph"})
