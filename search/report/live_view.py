"""The live terminal view: progress, time left, the current trial, the front so far, the last ended trials."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from olivine.search.records import TrialRecord
from olivine.search.report.formatting import (
    STATE_STYLE,
    duration_text,
    heading,
    headline_metrics,
    measured_text,
    outcome_text,
    params_text,
    varying,
)

#: Rows of the front and of ended trials that fit a small terminal.
FRONT_ROWS = 10
ENDED_ROWS = 4


class LiveView:
    """Redraws itself four times a second between ``study_started`` and ``study_ended``."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._live: Live | None = None
        self._heading = ""
        self._trials = 0
        self._done = 0
        self._timeout_s: float | None = None
        self._objectives: Sequence[str] = ()
        self._started = clock()
        self._current: tuple[int, Mapping[str, Any]] | None = None
        self._phase: tuple[str, float] | None = None
        self._front: Sequence[TrialRecord] = ()
        self._ended: Sequence[TrialRecord] = ()
        self._spinner = Spinner("line" if console.options.ascii_only else "dots", style="cyan")

    def study_started(
        self, name: str, model: str, trials: int, timeout_s: float | None, objectives: Sequence[str]
    ) -> None:
        """Take over the lower part of the terminal."""
        self._heading = f"[bold]{escape(name)}[/]  {escape(model)}"
        self._trials, self._timeout_s, self._objectives = trials, timeout_s, objectives
        self._started = self._clock()
        if self._live is None:
            self._live = Live(self, console=self._console, refresh_per_second=4)
            self._live.start()

    def trial_started(self, number: int, params: Mapping[str, Any]) -> None:
        """Show the trial as the current one."""
        self._current, self._phase = (number, params), None
        self._refresh()

    def phase_started(self, name: str) -> None:
        """Show the phase and start its stopwatch."""
        self._phase = (name, self._clock())
        self._refresh()

    def trial_ended(self, record: TrialRecord, front: Sequence[TrialRecord]) -> None:
        """Move the trial to the ended ones and redraw the front."""
        self._done += 1
        self._current, self._phase, self._front = None, None, list(front)
        self._ended = [record, *self._ended][:ENDED_ROWS]
        self._refresh()

    def note(self, message: str) -> None:
        """Print the message above the view, where it stays."""
        self._console.print(escape(message), highlight=False)

    def study_ended(self) -> None:
        """Leave the last picture on the terminal."""
        self._current = self._phase = None
        if self._live is not None:
            self._refresh()
            self._live.stop()
            self._live = None

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.refresh()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        parts: list[RenderableType] = [self._progress(), self._now()]
        if self._front:
            parts += ["", self._front_table()]
        if self._ended:
            parts += ["", self._ended_table()]
        yield Panel(Group(*parts), title=self._heading, title_align="left", border_style="dim", padding=(0, 1))

    def _progress(self) -> RenderableType:
        elapsed = self._clock() - self._started
        row = Table.grid(padding=(0, 2), expand=True)
        row.add_column(ratio=1)
        row.add_column(no_wrap=True)
        bar = ProgressBar(total=max(self._trials, 1), completed=self._done, complete_style="cyan")
        text = f"{self._done} of {self._trials} trials  {duration_text(elapsed)}"
        left = self._seconds_left(elapsed)
        row.add_row(bar, text if left is None else f"{text}  about {duration_text(left)} left")
        return row

    def _seconds_left(self, elapsed: float) -> float | None:
        """Predict from the trials that ended, bounded by the timeout; None before the first one ended."""
        bounds = []
        if self._done > 0:
            bounds.append(elapsed / self._done * max(0, self._trials - self._done))
        if self._timeout_s is not None:
            bounds.append(max(0.0, self._timeout_s - elapsed))
        return min(bounds) if bounds else None

    def _now(self) -> RenderableType:
        if self._current is None and self._phase is None:
            return Text("")
        row = Table.grid(padding=(0, 1))
        row.add_column(width=1)
        row.add_column()
        words = Text()
        if self._current is not None:
            number, params = self._current
            words.append(f"trial {number}  ", style="bold")
            words.append(params_text(params) or "base")
        if self._phase is not None:
            name, since = self._phase
            words.append(f"  {name} {duration_text(self._clock() - since)}", style="cyan")
        row.add_row(self._spinner, words)
        return row

    def _front_table(self) -> RenderableType:
        metrics = headline_metrics(self._objectives)
        axes = varying(self._front)
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=True)
        table.add_column("front", justify="right", no_wrap=True)
        for metric in metrics:
            table.add_column(heading(metric), justify="right", no_wrap=True)
        table.add_column("recipe", ratio=1, no_wrap=True, overflow="ellipsis")
        for record in self._front[:FRONT_ROWS]:
            cells = [measured_text(record.metrics.get(metric)) for metric in metrics]
            table.add_row(str(record.number), *cells, Text(params_text(record.params, axes) or "base"))
        if len(self._front) > FRONT_ROWS:
            table.add_row("", *[""] * len(metrics), f"and {len(self._front) - FRONT_ROWS} more")
        return table

    def _ended_table(self) -> RenderableType:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=True)
        table.add_column("ended", justify="right", no_wrap=True)
        table.add_column("state", no_wrap=True)
        table.add_column("outcome", ratio=1, no_wrap=True, overflow="ellipsis")
        for record in self._ended:
            state = Text(record.state, style=STATE_STYLE[record.state])
            table.add_row(str(record.number), state, Text(outcome_text(record, self._objectives)))
        return table
