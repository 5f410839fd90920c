"""The tables of ``olivine trials``, ``olivine compare`` and the front that ``olivine run`` ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from olivine.evaluators.metric import COLUMNS, HEADLINES
from olivine.evaluators.peers.summary import PeerRow, headings
from olivine.search.front_csv import front_axes, front_entry, is_selected
from olivine.search.records import TrialRecord
from olivine.search.report.fitted_table import FittedRow, FittedTable
from olivine.search.report.formatting import (
    STATE_STYLE,
    duration_text,
    heading,
    measured_text,
    params_text,
    scalar_text,
    shown_metrics,
    varying,
)
from olivine.search.report.verdict import compared_metrics, verdict


def trials_table(records: Sequence[TrialRecord], objectives: Sequence[str]) -> FittedTable:
    """One row per trial: state, headline metrics, the parameters that differ, the reason if there is one."""
    metrics = shown_metrics(records, objectives, HEADLINES)
    axes = varying(records)
    rows = []
    for record in records:
        words = Text(params_text(record.params, axes) or "base")
        if record.reason:
            words.append(f"\n{record.reason}", style="dim")
        cells: tuple[str | Text, ...] = (
            str(record.number),
            Text(record.state, style=STATE_STYLE[record.state]),
            *(measured_text(record.metrics.get(metric)) for metric in metrics),
            duration_text(record.build_seconds + record.evaluate_seconds),
        )
        rows.append(FittedRow(cells, words))
    headings = ("trial", "state", *map(heading, metrics), "time")
    justify = ("right", "left", *("right" for _ in metrics), "right")
    return FittedTable(headings, justify, "recipe, or the reason", rows)


def compare_table(a: TrialRecord, b: TrialRecord) -> RenderableType:
    """Two trials side by side: the parameters that differ, every metric of both, and the verdict."""
    params = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="parameters that differ", title_justify="left")
    params.add_column("axis")
    params.add_column(f"A: trial {a.number}")
    params.add_column(f"B: trial {b.number}")
    for axis in varying([a, b]):
        params.add_row(axis, *(scalar_text(r.params[axis]) if axis in r.params else "-" for r in (a, b)))
    if a.runtime != b.runtime:
        params.add_row("(runtime)", a.runtime or "-", b.runtime or "-")
    rows = []
    for name in compared_metrics(a, b):
        of_a, of_b = a.metrics.get(name), b.metrics.get(name)
        words = Text(verdict(of_a, of_b))
        rows.append(FittedRow((name, measured_text(of_a), measured_text(of_b)), words))
    headings = ("metric", f"A: trial {a.number}", f"B: trial {b.number}")
    metrics = FittedTable(headings, ("left", "right", "right"), "verdict, 95 % interval", rows)
    notes = [Text(f"trial {r.number} is {r.state}: {r.reason}", style="yellow") for r in (a, b) if r.reason]
    same = Text("Both build the same model: their recipes are equal.") if a.recipe_key == b.recipe_key else None
    return Group(*notes, *([same] if same else [params]), Text("measurements", style="italic"), metrics)


def front_table(rows: Sequence[Mapping[str, Any]]) -> FittedTable:
    """The rows of front.csv: the selected one marked, measurements with intervals, axes that differ."""
    metrics = [m for m in COLUMNS if any(front_entry(row, m) is not None for row in rows)]
    axes = front_axes(rows)
    differ = [axis for axis in axes if len({str(row.get(axis, "")) for row in rows}) > 1] or axes
    fitted = []
    for row in rows:
        chosen = is_selected(row)
        figures = (measured_text(front_entry(row, metric)) for metric in metrics)
        words = Text(", ".join(f"{axis} {row[axis]}" for axis in differ if str(row.get(axis, "")) != ""))
        cells: tuple[str | Text, ...] = (Text("*" if chosen else ""), str(row["trial"]), *figures)
        fitted.append(FittedRow(cells, words, style="bold" if chosen else ""))
    justify = ("left", "right", *("right" for _ in metrics))
    return FittedTable(("", "trial", *map(heading, metrics)), justify, "recipe", fitted)


def peers_table(rows: Sequence[PeerRow]) -> Table:
    """The exported selection beside other engines' models."""
    table = Table(title="beside llama.cpp and OpenVINO")
    for place, name in enumerate(headings(rows)):
        table.add_column(name, justify="left" if place < 2 else "right")
    for row in rows:
        table.add_row(*row.cells())
    return table
