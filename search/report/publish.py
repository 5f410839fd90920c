"""The end of a study as people see it: report and dashboard made anew, and a summary on the terminal."""

from __future__ import annotations

from pathlib import Path

import optuna
from rich.console import Console

from olivine.search.front_csv import read_front
from olivine.search.report.dashboard.server import command, publish
from olivine.search.report.report import write_report
from olivine.search.report.say import say
from olivine.search.report.sections import loss_by_text
from olivine.search.report.tables import front_table
from olivine.search.study_dir import StudyDir


def show(study: optuna.Study, folder: StudyDir) -> None:
    """Make dashboard and report anew from the records."""
    publish(study, folder)
    write_report(folder)


def print_summary(folder: StudyDir, out: Console, model: Path) -> None:
    """Print the confirmed front, the choice with its reason and warnings, and the paths of all results."""
    outcome = folder.outcome()
    out.print(front_table(read_front(folder)))
    say(out, outcome.reason)
    for line in loss_by_text(outcome.metrics):
        say(out, line)
    for warning in outcome.warnings:
        say(out, f"warning: {warning}", style="yellow")
    for name, place in (("model", model), ("report", folder.report_path), ("dashboard", command(folder))):
        say(out, f"{name + ':':<10} {place}")
