"""What a person sees when a study has ended: report and dashboard made anew, and a summary."""

from __future__ import annotations

import csv
from pathlib import Path

import optuna
from rich.console import Console

from olivine.search.report.dashboard.server import command, publish
from olivine.search.report.report import write_report
from olivine.search.report.tables import front_table
from olivine.search.selection.select import Selection
from olivine.search.study_dir import StudyDir


def show(study: optuna.Study, folder: StudyDir) -> None:
    """Everything a person looks at, made anew from what is stored."""
    publish(study, folder)
    write_report(folder)


def print_summary(folder: StudyDir, chosen: Selection, out: Console, model: Path) -> None:
    """The confirmed front, the choice with its reason and warnings, and where things are."""
    with folder.front_path.open(encoding="utf-8") as stream:
        out.print(front_table(list(csv.DictReader(stream))))
    out.print(chosen.reason, markup=False)
    for warning in chosen.warnings:
        out.print(f"warning: {warning}", style="yellow", markup=False)
    out.print(f"model:     {model}", markup=False)
    out.print(f"report:    {folder.report_path}", markup=False)
    out.print(f"dashboard: {command(folder)}", markup=False)
