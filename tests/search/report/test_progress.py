from __future__ import annotations

import io

from rich.console import Console
from study_folder import OBJECTIVES, record, records

from olivine.search.pareto import front
from olivine.search.report.live_view import LiveView
from olivine.search.report.progress import LineOutput, Progress, watcher_for


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=100, height=40, record=True, color_system=None)


def pipe() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=100, record=True)


def run_study(progress: Progress, clock: FakeClock, last: int = 15) -> None:
    progress.study_started("demo", "demo:smollm2-135m-instruct", 16, 900.0, OBJECTIVES)
    progress.phase_started("source")
    for number in range(last + 1):
        trial = record(number)
        progress.trial_started(number, trial.params)
        for phase in trial.phases:
            progress.phase_started(phase)
        clock.now += 20
        progress.trial_ended(trial, front(records()[: number + 1], OBJECTIVES))


def test_lines_are_one_per_ended_trial_with_its_outcome() -> None:
    console, clock = pipe(), FakeClock()
    progress = LineOutput(console, clock)
    run_study(progress, clock)
    progress.note("the front stopped growing [after 5 trials]")
    progress.study_ended()
    lines = console.export_text().splitlines()
    ended = [line for line in lines if line.startswith("[")]
    assert len(ended) == 16
    assert ended[7].startswith("[7/16] trial 7 complete in 26 s, on the front: decode speedup 2.91x ±0.06")
    assert "perplexity_ratio is 1.95 [1.88, 2.03]" in ended[2]
    assert lines[0].startswith("study demo: 16 trials, at most 15 min 00 s")
    assert "the front stopped growing [after 5 trials]" in lines
    assert lines[-1] == "15 trials in 5 min 20 s"


def test_phases_within_a_trial_stay_quiet_in_lines() -> None:
    console, clock = pipe(), FakeClock()
    run_study(LineOutput(console, clock), clock, last=1)
    text = console.export_text()
    assert "source ..." in text
    assert "latency ..." not in text


def test_live_view_shows_progress_current_trial_front_and_ended_trials() -> None:
    console, clock = terminal(), FakeClock()
    view = LiveView(console, clock)
    run_study(view, clock, last=11)
    view.trial_started(12, record(12).params)
    view.phase_started("latency")
    clock.now += 3.2
    picture = Console(file=io.StringIO(), force_terminal=True, width=100, record=True, color_system=None)
    picture.print(view)
    view.study_ended()
    text = picture.export_text()
    assert "12 of 16 trials" in text
    assert "about 1 min 21 s left" in text
    assert "trial 12" in text
    assert "latency 3.2 s" in text
    assert "3.09x ±0.07" in text
    assert "infeasible  perplexity_ratio is 1.95 [1.88, 2.03]" in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_time_left_never_exceeds_the_timeout() -> None:
    clock = FakeClock()
    view = LiveView(terminal(), clock)
    view.study_started("demo", "m", 1000, 60.0, OBJECTIVES)
    clock.now = 20.0
    view.trial_ended(record(0), [])
    picture = pipe()
    picture.print(view)
    view.study_ended()
    assert "about 40 s left" in picture.export_text()


def test_notes_stay_above_the_view_and_are_no_markup() -> None:
    console = terminal()
    view = LiveView(console, FakeClock())
    view.study_started("demo", "m", 1, None, OBJECTIVES)
    view.note("search ended: [/] it was")
    view.study_ended()
    view.study_ended()
    assert "search ended: [/] it was" in console.export_text()


def test_the_view_is_for_terminals_and_lines_are_for_the_rest() -> None:
    assert isinstance(watcher_for(terminal()), LiveView)
    assert isinstance(watcher_for(pipe()), LineOutput)
