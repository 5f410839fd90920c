"""front.csv: a row per member of the confirmed front, and for the selected trial; written and read here."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.metric import METRICS, split_text
from olivine.search.records import StudyOutcome, TrialRecord
from olivine.search.study_dir import StudyDir

#: Column with the flavours of ONNX Runtime that ran a member, with their versions.
RUNTIME = "runtime"
#: Ends of the names of a metric's columns: its value, and its interval.
_ENDS = ("", "_low", "_high")
#: Columns that are no axis and no metric.
_ABOUT = ("trial", "selected", RUNTIME, "dominated_probability")


@dataclass(frozen=True)
class FrontColumns:
    """Metrics of front.csv; they differ by kind of model.

    Attributes:
        metrics: confirmed ones, each a column where any member has it.
        with_interval: those of them that have columns for their ends.
        searched: those with a column for the value that the search itself had measured.
        later: those that came after version 0.1.0, in columns behind all others.
    """

    metrics: Sequence[str]
    with_interval: Sequence[str]
    searched: Sequence[str]
    later: Sequence[str] = ()


def front_csv(axes: Sequence[str], columns: FrontColumns, records: Sequence[TrialRecord], outcome: StudyOutcome) -> str:
    """The text of front.csv: the front, and the selected trial, which ``select.where`` may have put off it.

    Args:
        axes: searched axes, each a column.
        columns: metrics of this kind of model.
        records: all trials of the search.
        outcome: confirmed measurements, front and selection.
    """
    measured = {name for metrics in outcome.confirmed.values() for name in metrics} or set(columns.metrics)
    metrics = [name for name in columns.metrics if name in measured]
    searched = [name for name in columns.searched if name in measured]
    names = ["trial", "selected", *axes]
    for metric in metrics:
        names += [metric, f"{metric}_low", f"{metric}_high"] if metric in columns.with_interval else [metric]
    names += [RUNTIME, "dominated_probability", *(f"{metric}_search" for metric in searched)]
    by_text = list(dict.fromkeys(name for found in outcome.confirmed.values() for name in found if split_text(name)[1]))
    names += [f"{name}{end}" for name in by_text for end in _ENDS]
    later = [name for name in columns.later if name in measured]
    names += later
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    by_number = {record.number: record for record in records}
    for number, confirmed in outcome.confirmed.items():
        if number not in outcome.front and number != outcome.trial:
            continue
        record = by_number[number]
        row: dict[str, Any] = {"trial": number, "selected": number == outcome.trial, RUNTIME: record.runtime}
        row |= {axis: record.params.get(axis, "") for axis in axes}
        for metric in metrics:
            row |= _cells(confirmed[metric], metric in columns.with_interval)
        row["dominated_probability"] = f"{outcome.dominated_probability.get(number, 0.0):.3g}"
        row |= {f"{metric}_search": f"{record.value(metric):.6g}" for metric in searched if metric in record.metrics}
        for name in by_text:
            row |= _cells(confirmed[name], True) if name in confirmed else {}
        for name in later:
            row |= _cells(confirmed[name], False) if name in confirmed else {}
        writer.writerow(row)
    return text.getvalue()


def _cells(measurement: Measurement, with_interval: bool) -> dict[str, Any]:
    metric = measurement.metric
    value = int(measurement.value) if measurement.unit == "bytes" else f"{measurement.value:.6g}"
    ends = {f"{metric}_low": f"{measurement.low:.6g}", f"{metric}_high": f"{measurement.high:.6g}"}
    return {metric: value, **(ends if with_interval else {})}


def read_front(study: StudyDir) -> list[dict[str, str]]:
    """The rows of front.csv; none while there is no such file."""
    if not study.front_path.is_file():
        return []
    with study.front_path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def front_axes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns that are axes of the search space."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    metrics = {f"{metric}{end}" for metric in METRICS for end in (*_ENDS, "_search")}
    return [name for name in names if name not in metrics and name not in _ABOUT and not split_text(name)[1]]


def is_selected(row: Mapping[str, Any]) -> bool:
    """True for the row of the selected trial."""
    return str(row.get("selected", "")).lower() in ("true", "1", "yes")


def front_entry(row: Mapping[str, Any], metric: str) -> Measurement | None:
    """A metric of a row; None where the column is absent or empty."""
    value = _number(row.get(metric))
    if value is None:
        return None
    low, high = _number(row.get(f"{metric}_low")), _number(row.get(f"{metric}_high"))
    return Measurement(
        metric,
        METRICS[split_text(metric)[0]].unit,
        value,
        value if low is None else low,
        value if high is None else high,
    )


def _number(cell: Any) -> float | None:
    return None if cell is None or cell == "" else float(cell)
