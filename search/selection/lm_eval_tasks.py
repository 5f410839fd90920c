"""Tasks of lm-eval in a study: looked up before it starts, measured at its end on the base and what was confirmed."""

from __future__ import annotations

from pathlib import Path

from olivine.evaluators.model_folders import stamped
from olivine.evaluators.quality.lm_eval import Tasks
from olivine.passes.errors import OlivineError, SourceError, Unwritable
from olivine.search.config.language import LmEvalConfig
from olivine.search.records import Metrics, TaskScores
from olivine.search.selection.confirm import Confirmation
from olivine.search.study.runner import StudyRunner


def asked_tasks(given: LmEvalConfig) -> Tasks:
    """The tasks that a YAML asks for."""
    path = None if given.include_path is None else Path(given.include_path).expanduser()
    return Tasks(given.tasks, given.limit, path)


def confirm_tasks(search: StudyRunner, confirmation: Confirmation) -> TaskScores | None:
    """Score the study's tasks on the base, the confirmed front and the selected trial; None where there are none.

    A member whose process dies, or a task that fails, is named and costs no other.
    """
    given = search.config.evaluation.lm_eval
    if given is None:
        return None
    search.progress.phase_started("tasks: loading")
    loaded = asked_tasks(given).load()
    wanted = {0, *confirmation.front, search.folder.outcome().trial}
    records = [record for record in search.records if record.number in wanted]
    measured: dict[int, Metrics] = {}
    failures = []
    for position, record in enumerate(sorted(records, key=lambda record: record.number), start=1):
        search.progress.phase_started(f"tasks {position}/{len(records)}: trial {record.number}")
        try:
            recipe = record.recipe
            with search.objective.scored(recipe, f"{record.number:04d}-tasks") as (process, folder):
                found = stamped(loaded.evaluate(process, folder), process)
        except (Unwritable, SourceError):
            raise
        except OlivineError as error:
            failures.append(f"Trial {record.number}: {error}")
            search.progress.note(failures[-1])
            continue
        measured[record.number] = {m.metric: m for m in found}
    return TaskScores(measured, tuple(failures))
