"""The end of a study: confirm the front, select, write front.csv and selection.json, export, ablate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from olivine.passes.store.atomic_files import write_atomic
from olivine.search.front_csv import front_csv
from olivine.search.records import StudyOutcome
from olivine.search.report.plots.front_svg import front_picture
from olivine.search.selection.ablation import ablate
from olivine.search.selection.confirm import Confirmation, confirm, shrinkage
from olivine.search.selection.lm_eval_tasks import asked_tasks, score_tasks, trials_to_score
from olivine.search.selection.select import NoCandidate, Selection, select
from olivine.search.study.export_candidate import candidate_manifest, candidate_of, rebuild_command
from olivine.search.study.open import OpenStudy
from olivine.search.study.trials.objective import Objective
from olivine.search.study.trials.remeasure import Remeasurer
from olivine.search.workloads.workload import Candidate


def finish(opened: OpenStudy, objective: Objective) -> Selection:
    """Confirm, select and export; front.csv and selection.json are written in every case.

    Raises:
        NoCandidate: when nothing meets the constraints.
    """
    config, records, progress, workload = opened.config, opened.records, opened.progress, opened.tools.workload
    remeasurer = Remeasurer(objective, records[0].metrics)
    confirmation = confirm(remeasurer, records, config, progress)
    try:
        chosen = select(config, confirmation, records)
    except NoCandidate as nothing:
        _write(opened, outcome_of(confirmation, nothing, workload.columns.searched))
        if opened.folder.best_path.exists():
            progress.note(f"{opened.folder.best_path} is what an earlier run selected; nothing was selected now")
        raise
    record = chosen.record
    candidate = candidate_of(record.recipe, objective.build(record.recipe, "export"), objective.learned)
    rebuild = rebuild_command(workload, opened.source.revision, candidate, record.params)
    outcome = outcome_of(confirmation, chosen, workload.columns.searched, rebuild)
    _write(opened, outcome)
    if workload.lm_eval is not None:
        scored = trials_to_score(records, outcome)
        outcome = replace(outcome, tasks=score_tasks(asked_tasks(workload.lm_eval), remeasurer, scored, progress))
        opened.folder.write_outcome(outcome)
    progress.phase_started("export")
    _export(opened, candidate, chosen, outcome)
    if config.confirm.ablation:
        base = workload.base_choice()
        parts = ablate(remeasurer, workload.catalog, chosen.record.params, base, progress)
        opened.folder.write_outcome(replace(outcome, ablation=tuple(parts)))
    return chosen


def _export(opened: OpenStudy, candidate: Candidate, chosen: Selection, outcome: StudyOutcome) -> None:
    workload, record = opened.tools.workload, chosen.record
    metrics = dict(chosen.metrics)
    if outcome.tasks is not None:
        metrics |= outcome.tasks.measured.get(record.number, {})
    sections = {
        "study": {"name": opened.config.name, "trial": record.number},
        "selection": {"reason": chosen.reason, "warnings": list(chosen.warnings)},
    }
    manifest = candidate_manifest(workload, opened.source, candidate, record.params, metrics, sections)
    workload.export(candidate, opened.folder.best_path, manifest, front_picture(opened.folder))


def _write(opened: OpenStudy, outcome: StudyOutcome) -> None:
    axes = opened.config.search_space().searched
    table = front_csv(axes, opened.tools.workload.columns, opened.records, outcome)
    write_atomic(opened.folder.front_path, table)
    opened.folder.write_outcome(outcome)


def outcome_of(
    confirmation: Confirmation, chosen: Selection | NoCandidate, searched: Sequence[str], rebuild: str = ""
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
