"""Progress of a study: a live view on a terminal, quiet lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from rich.console import Console

from olivine.search.records import TrialRecord
from olivine.search.report.formatting import duration_text, outcome_text, params_text, title
from olivine.search.report.say import say


class Progress(Protocol):
    """Told of everything that happens in a study, in the order it happens."""

    def study_started(
        self, name: str, model: str, trials: int, timeout_s: float | None, objectives: Sequence[str]
    ) -> None:
        """A study begins or goes on; ``trials`` are still to be run in it."""
        ...

    def trial_started(self, number: int, params: Mapping[str, Any]) -> None:
        """A trial begins."""
        ...

    def phase_started(self, name: str) -> None:
        """The trial, or the study, enters a phase: source, build, quality, latency, confirm, export."""
        ...

    def trial_ended(self, record: TrialRecord, front: Sequence[TrialRecord]) -> None:
        """A trial ended; ``front`` is the front now."""
        ...

    def note(self, message: str) -> None:
        """A message that people want to see."""
        ...

    def study_ended(self) -> None:
        """No more events come."""
        ...


class LineOutput:
    """One line per event that matters and one per ended trial: for logs and pipes."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._trials = 0
        self._ended = 0
        self._objectives: Sequence[str] = ()
        self._started = clock()
        self._in_trial = False

    def study_started(
        self, name: str, model: str, trials: int, timeout_s: float | None, objectives: Sequence[str]
    ) -> None:
        """Say what is about to run."""
        self._trials, self._ended, self._objectives, self._started = trials, 0, objectives, self._clock()
        limit = "" if timeout_s is None else f", at most {duration_text(timeout_s)}"
        goals = " and ".join(title(objective) for objective in objectives)
        self._say(f"study {name}: {trials} trials{limit} on {model}, for {goals}")

    def trial_started(self, number: int, params: Mapping[str, Any]) -> None:
        """Nothing: the line comes when the trial ends."""
        self._in_trial = True

    def phase_started(self, name: str) -> None:
        """Say so only outside of a trial, where it is the only sign of life."""
        if not self._in_trial:
            self._say(f"{name} ...")

    def trial_ended(self, record: TrialRecord, front: Sequence[TrialRecord]) -> None:
        """One line: how far the study is, what the trial was, what came out."""
        self._in_trial = False
        self._ended += record.number > 0  # the base is no candidate
        mark = ", on the front" if any(member.number == record.number for member in front) else ""
        seconds = duration_text(record.build_seconds + record.evaluate_seconds)
        self._say(
            f"[{self._ended}/{self._trials}] trial {record.number} {record.state} in {seconds}{mark}: "
            f"{outcome_text(record, self._objectives)} ({params_text(record.params) or 'base'})"
        )

    def note(self, message: str) -> None:
        """The message, on a line of its own."""
        self._say(message)

    def study_ended(self) -> None:
        """Say how many trials ended, and in what time."""
        self._say(f"{self._ended} trials in {duration_text(self._clock() - self._started)}")

    def _say(self, text: str) -> None:
        say(self._console, text)


def watcher_for(console: Console) -> Progress:
    """The live view where ``console`` is a terminal, lines where it is not."""
    from olivine.search.report.live_view import LiveView

    return LiveView(console) if console.is_terminal and not console.is_dumb_terminal else LineOutput(console)
