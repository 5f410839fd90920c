"""The end of a study: confirm the front, select, write front.csv and selection.json, export, report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from olivine.evaluators.providers.interpreters import process_options
from olivine.passes.base import Scalar
from olivine.passes.parity.proof import notes_among, proof_among
from olivine.passes.store.atomic_files import write_atomic
from olivine.search.builds.calibration_text import Calibration
from olivine.search.environment import HARDWARE, describe_environment
from olivine.search.export.folder import export_model, rebuild_command
from olivine.search.front_csv import FrontColumns, front_csv
from olivine.search.records import StudyOutcome, TaskScores, TrialRecord, metrics_json
from olivine.search.report.plots.front_svg import front_picture
from olivine.search.selection.ablation import ablate
from olivine.search.selection.confirm import Confirmation, confirm, shrinkage
from olivine.search.selection.lm_eval_tasks import confirm_tasks
from olivine.search.selection.select import NoCandidate, Selection, select
from olivine.search.study.runner import StudyRunner

#: Columns of front.csv for language models.
FRONT = FrontColumns(
    metrics=(
        "tpot_ms",
        "tpot_speedup",
        "ttft_ms",
        "ttft_speedup",
        "perplexity",
        "perplexity_ratio",
        "kl_divergence",
        "top1_agreement",
        "model_bytes",
        "peak_rss_bytes",
    ),
    with_interval=("tpot_speedup", "ttft_speedup", "perplexity_ratio"),
    searched=("tpot_speedup", "ttft_speedup", "perplexity_ratio"),
)


def finish(search: StudyRunner) -> Selection:
    """Confirm, select and export; what a person looks at is written in every case.

    Raises:
        NoCandidate: when nothing meets the constraints.
    """
    confirmation = confirm(search)
    try:
        chosen: Selection | None = select(search.config, confirmation, search.records)
        nothing: NoCandidate | None = None
    except NoCandidate as error:
        chosen, nothing = None, error
    outcome = outcome_of(
        confirmation, chosen or nothing, FRONT.searched, _rebuild(search, chosen.record) if chosen else ""
    )
    axes = search.config.search_space().searched
    write_atomic(search.folder.front_path, front_csv(axes, FRONT, search.records, outcome))
    search.folder.write_outcome(outcome)
    if chosen is None or nothing is not None:
        assert nothing is not None
        if search.folder.best_path.exists():
            search.progress.note(f"{search.folder.best_path} is what an earlier run selected; nothing was selected now")
        raise nothing
    tasks = confirm_tasks(search, confirmation)
    if tasks:
        outcome = replace(outcome, tasks=tasks)
        search.folder.write_outcome(outcome)
    search.progress.phase_started("export")
    artifact = search.objective.build(chosen.record.recipe, "export")
    options = process_options(chosen.record.recipe.provider, search.config.pythons())
    picture = front_picture(search.folder)
    about = manifest(search, chosen, tasks)
    export_model(artifact, search.folder.best_path, about, force=True, process=options, picture=picture)
    if search.config.confirm.ablation:
        search.folder.write_outcome(replace(outcome, ablation=tuple(ablate(search, chosen.record))))
    return chosen


def outcome_of(
    confirmation: Confirmation, chosen: Selection | NoCandidate | None, searched: Sequence[str], rebuild: str = ""
) -> StudyOutcome:
    """The content of selection.json.

    Args:
        confirmation: the members measured again.
        chosen: the selection, or why there is none.
        searched: metrics whose shrinkage is told.
        rebuild: the command that builds the selected trial again.
    """
    selected = chosen if isinstance(chosen, Selection) else None
    return StudyOutcome(
        trial=selected.record.number if selected else None,
        reason=selected.reason if selected else str(chosen),
        warnings=selected.warnings if selected else (),
        confirmed={record.number: metrics for record, metrics in confirmation.members},
        front=confirmation.front,
        dominated_probability=confirmation.dominated,
        measured=confirmation.measured,
        shrinkage=shrinkage(confirmation, searched),
        default_threads=confirmation.default_threads,
        rebuild=rebuild,
    )


def manifest(search: StudyRunner, chosen: Selection, tasks: TaskScores | None) -> dict[str, Any]:
    """What olivine.json says of an exported candidate, beside its files."""
    scores = tasks.measured.get(chosen.record.number, {}) if tasks else {}
    about = about_model(search, chosen.record, metrics_json({**chosen.metrics, **scores}, samples=False))
    return about | {"selection": {"reason": chosen.reason, "warnings": list(chosen.warnings)}}


def about_model(search: StudyRunner, record: TrialRecord, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Source, recipe, measurements, versions, hardware and the command that rebuilds the same bytes."""
    environment = describe_environment()
    return {
        "model": search.folder.environment()["model"] | {"source": search.config.model},
        "recipe": record.recipe.to_json(),
        "recipe_key": record.recipe_key,
        "study": {"name": search.config.name, "trial": record.number},
        "measurements": metrics,
        "versions": environment["versions"],
        "hardware": {name: environment[name] for name in HARDWARE},
        "rebuild": _rebuild(search, record),
        **({"calibration": calibration.to_json()} if (calibration := _calibration(search, record)) else {}),
        **({"base_agreement": dict(proof)} if (proof := proof_among(record.passes)) else {}),
        **({"notes": notes} if (notes := notes_among(record.passes)) else {}),
    }


def _rebuild(search: StudyRunner, record: TrialRecord) -> str:
    config, calibration = search.config, _calibration(search, record)
    commit = search.folder.model().get("revision")
    return rebuild_command(config.model, commit, config.trust_remote_code, pinned_choice(record), calibration)


def _calibration(search: StudyRunner, record: TrialRecord) -> Calibration | None:
    """What the candidate learned from, if it did."""
    return search.calibration if record.recipe.needs_calibration else None


def pinned_choice(record: TrialRecord) -> dict[str, Scalar]:
    """The choice behind a record, with the threads it ran with rather than "all cores" of another machine."""
    threads = record.recipe.threads
    return {**record.params, **({"threads": threads} if threads else {})}
