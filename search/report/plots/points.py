"""The marks of the front's picture: one per trial that has both metrics: kind, intervals, tooltip."""

from __future__ import annotations

import math
from dataclasses import dataclass

from olivine.evaluators.metric import HEADLINES, METRICS
from olivine.passes.precisions import is_uniform
from olivine.search.records import TrialRecord
from olivine.search.report.formatting import headline_metrics, interval_text, params_text, title, varying
from olivine.search.report.study_view import StudyView


@dataclass(frozen=True)
class PlotPoint:
    """One trial in the picture: value, low and high in both directions; whether all its layers are quantized alike."""

    number: int
    kind: str
    x: tuple[float, float, float]
    y: tuple[float, float, float]
    tooltip: str
    uniform: bool = False


def plot_pairs(objectives: tuple[str, ...]) -> list[tuple[str, str]]:
    """The (x, y) metrics of each picture: quality upwards, the others to the right, times as speedups."""
    shown = headline_metrics(objectives)[: len(objectives)]
    up = next((name for name in shown if METRICS[name].family in ("quality", "task")), shown[-1])
    return [(name, up) for name in shown if name != up]


def marks(view: StudyView, x: str, y: str) -> list[PlotPoint]:
    """Every trial in which both metrics were measured; the front's members last, so that they lie on top."""
    members = {member.number for member in view.members}
    axes = varying(view.records)
    found = []
    for record in view.records:
        shown = view.shown(record)
        if x not in shown.metrics or y not in shown.metrics:
            continue
        kind = _kind(record, shown.number in members, view.outcome.trial)
        tooltip = _tooltip(shown, kind, axes, x, y)
        uniform = record.feasible and is_uniform(record.params)
        found.append(PlotPoint(record.number, kind, _triple(shown, x), _triple(shown, y), tooltip, uniform))
    order = ("infeasible", "failed", "feasible", "base", "front", "selected")
    return sorted(found, key=lambda mark: order.index(mark.kind))


def _kind(record: TrialRecord, member: bool, selected: object) -> str:
    if record.number == selected:
        return "selected"
    if member:
        return "front"
    if record.number == 0:
        return "base"
    return "feasible" if record.feasible else record.state


def _triple(record: TrialRecord, metric: str) -> tuple[float, float, float]:
    measured = record.metrics[metric]
    value, low, high = measured.value, measured.low, measured.high
    return value, low if math.isfinite(low) else value, high if math.isfinite(high) else value


def _tooltip(record: TrialRecord, kind: str, axes: list[str], x: str, y: str) -> str:
    words = {"front": "on the front", "selected": "selected", "base": "the float base"}.get(kind, record.state)
    lines = [f"trial {record.number}, {words}", params_text(record.params, axes)]
    shown = [m for m in dict.fromkeys([x, y, *HEADLINES]) if m in record.metrics]
    lines += [f"{title(metric)} {interval_text(record.metrics[metric])}" for metric in shown]
    return "\n".join(line for line in [*lines, record.reason] if line)
