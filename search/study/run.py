"""``olivine run``: a study from start to exported model, and what is printed at its end."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from olivine.search.config.language import LanguageStudyConfig
from olivine.search.report.progress import Progress, watcher_for
from olivine.search.report.publish import print_summary, show
from olivine.search.report.say import say
from olivine.search.selection.select import NoCandidate
from olivine.search.study.distributed.lead import lead
from olivine.search.study.distributed.record_sync import RecordSync
from olivine.search.study.finish import finish
from olivine.search.study.interrupt import EXIT_INTERRUPTED, Interrupted
from olivine.search.study.open import lead_search, open_search
from olivine.search.study.runner import StudyRunner
from olivine.search.study.storage import connect, shown
from olivine.search.study_dir import StudyDir


def run_study(
    config: LanguageStudyConfig,
    root: Path,
    storage: str | None,
    config_path: Path,
    out: Console,
    err: Console,
    artifacts: str = "",
    again: str | None = None,
) -> int:
    """Run or resume the study in ``root``; returns the exit code.

    Args:
        config: the study.
        root: its folder.
        storage: URL of a storage that workers share; None for SQLite in the folder, and this process alone.
        config_path: where the config was read.
        out: where the progress is printed.
        err: where it is said why it stopped.
        artifacts: URL where workers that do not share the folder leave their records; empty for none.
        again: the command that resumes it; ``olivine run`` by default.

    Raises:
        NoCandidate: when no candidate meets the constraints (exit code 3).
        OlivineError: when the model can't be found, or its float base can't be built or measured.
    """
    folder = StudyDir(root)
    progress = watcher_for(out)
    try:
        with _opened(config, folder, storage, artifacts, progress) as (search, begin):
            try:
                begin()
                finish(search)
            except (Interrupted, KeyboardInterrupt):
                show(search.study, search.folder)
                progress.study_ended()
                resume = again or f"olivine run {shlex.quote(str(config_path))} --out {shlex.quote(str(root))}"
                say(
                    err,
                    f"olivine: stopped; every finished trial is kept. Resume with:\n"
                    f"  {resume}{f' --storage {shown(storage)}' if storage else ''}",
                )
                return EXIT_INTERRUPTED
            except NoCandidate:
                show(search.study, search.folder)
                raise
            show(search.study, search.folder)
    finally:
        progress.study_ended()
    print_summary(folder, out, folder.best_path)
    say(out, f"talk:      olivine chat {shlex.quote(str(folder.best_path))}")
    return 0


@contextmanager
def _opened(
    config: LanguageStudyConfig, folder: StudyDir, storage: str | None, artifacts: str, progress: Progress
) -> Iterator[tuple[StudyRunner, Callable[[], None]]]:
    """The search, and what runs it: this process alone, or with whoever joins."""
    if storage is None:
        with open_search(config, folder, progress) as search:
            yield search, search.run
    else:
        with lead_search(config, folder, connect(storage), progress) as (search, shared):
            yield search, lambda: lead(search, shared, RecordSync(folder, artifacts))
