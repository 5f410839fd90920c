"""Tasks of lm-eval in a study: measured at its end on the base, the confirmed front and the selected trial."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from olivine.evaluators.model_folders import stamped
from olivine.evaluators.quality.lm_eval import LoadedTasks, Tasks
from olivine.passes.errors import OlivineError
from olivine.search.config.language import LmEvalConfig
from olivine.search.records import Metrics, StudyOutcome, TaskScores, TrialRecord
from olivine.search.report.progress import Progress
from olivine.search.selection.measurer import Measurer, try_to_measure


def asked_tasks(section: LmEvalConfig) -> Tasks:
    """The tasks that a YAML asks for."""
    path = None if section.include_path is None else Path(section.include_path).expanduser()
    return Tasks(section.tasks, section.limit, path)


def trials_to_score(records: Sequence[TrialRecord], outcome: StudyOutcome) -> list[TrialRecord]:
    """The base, the confirmed front and the selected trial, by number."""
    numbers = {0, outcome.trial, *outcome.front}
    return sorted((record for record in records if record.number in numbers), key=lambda record: record.number)


def score_tasks(tasks: Tasks, measurer: Measurer, records: Sequence[TrialRecord], progress: Progress) -> TaskScores:
    """Score tasks on these trials.

    A trial whose process dies, or a task that fails, is named and costs no other.
    """
    progress.phase_started("tasks: loading")
    loaded = tasks.load()
    scores: dict[int, Metrics] = {}
    failures: list[str] = []
    for position, record in enumerate(records, start=1):
        progress.phase_started(f"tasks {position}/{len(records)}: trial {record.number}")
        metrics = try_to_measure(partial(_score, loaded, measurer, record))
        if isinstance(metrics, OlivineError):
            failures.append(f"Trial {record.number}: {metrics}")
            progress.note(failures[-1])
        else:
            scores[record.number] = metrics
    return TaskScores(scores, tuple(failures))


def _score(tasks: LoadedTasks, measurer: Measurer, record: TrialRecord) -> Metrics:
    with measurer.scored(record.recipe, f"{record.number:04d}-tasks") as (process, folder):
        return {m.metric: m for m in stamped(tasks.evaluate(process, folder), process)}
