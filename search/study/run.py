"""``olivine run``: a study from start to exported model, and what is printed at its end."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from olivine.search.report.progress import Progress, watcher_for
from olivine.search.report.publish import print_summary, show
from olivine.search.report.say import say
from olivine.search.selection.select import NoCandidate
from olivine.search.study.distributed.lead import open_shared_study, run_shared_search
from olivine.search.study.distributed.record_sync import RecordSync
from olivine.search.study.finish import finish
from olivine.search.study.interrupt import EXIT_INTERRUPTED, Interrupted
from olivine.search.study.open import OpenStudy, open_study
from olivine.search.study.runner import run_search
from olivine.search.study.storage import connect
from olivine.search.study.trials.objective import Objective
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.workload import AnyWorkload


def run_study(
    workload: AnyWorkload,
    folder: StudyDir,
    out: Console,
    err: Console,
    resume: str,
    storage: str | None = None,
    artifacts: str = "",
) -> int:
    """Run or resume the study in a folder; returns the exit code.

    Args:
        workload: with the config of the study.
        folder: of the study.
        out: where the progress is printed.
        err: where it is said why it stopped.
        resume: the command that resumes it.
        storage: URL of a storage that workers share; None for SQLite in the folder, and this process alone.
        artifacts: URL where workers that do not share the folder leave their records; empty for none.

    Raises:
        NoCandidate: when no candidate meets the constraints (exit code 3).
        OlivineError: when the model can't be found, or its float base can't be built or measured.
    """
    progress = watcher_for(out)
    try:
        with _opened(workload, folder, progress, storage, artifacts) as (opened, search):
            try:
                finish(opened, search())
            except (Interrupted, KeyboardInterrupt):
                show(opened.study, folder)
                progress.study_ended()
                say(err, f"olivine: stopped; every finished trial is kept. Resume with:\n  {resume}")
                return EXIT_INTERRUPTED
            except NoCandidate:
                show(opened.study, folder)
                raise
            show(opened.study, folder)
    finally:
        progress.study_ended()
    selected = folder.best_path if workload.kind == "language" else folder.best_path / workload.exported
    print_summary(folder, out, selected)
    if workload.kind == "language":
        say(out, f"talk:      olivine chat {shlex.quote(str(folder.best_path))}")
    return 0


@contextmanager
def _opened(
    workload: AnyWorkload, folder: StudyDir, progress: Progress, storage: str | None, artifacts: str
) -> Iterator[tuple[OpenStudy, Callable[[], Objective]]]:
    """The study, and what searches it: this process alone, or with whoever joins."""
    if storage is None:
        with open_study(workload, folder, progress) as opened:
            yield opened, lambda: run_search(opened)
    else:
        with open_shared_study(workload, folder, connect(storage), progress) as (opened, shared):
            yield opened, lambda: run_shared_search(opened, shared, RecordSync(folder, artifacts))
