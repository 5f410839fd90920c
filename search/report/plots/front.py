"""The front as a drawing without pixels: points, labels, lines and colours, which SVG and plotly render alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from olivine.evaluators.metric import HEADLINES, METRICS, directed
from olivine.passes.precisions import is_uniform
from olivine.search.config.constraints import Constraint, parse_constraint
from olivine.search.pareto import nondominated
from olivine.search.records import TrialRecord
from olivine.search.report.formatting import headline_metrics, interval_text, params_text, title, varying
from olivine.search.report.plots.colors import Tone
from olivine.search.report.study_view import StudyView

Vertex = tuple[float, float]


@dataclass(frozen=True)
class Kind:
    """A kind of trial in the drawing: each has a shape of its own, so that colour is not needed to tell them apart.

    Attributes:
        legend: its words in the legend.
        state: its words in a tooltip; empty where the state of the trial says it.
        tone: its colour.
        shape: of its points.
        radius: of its points in pixels.
        labelled: its points have their numbers beside them.
    """

    legend: str
    state: str
    tone: Tone
    shape: Literal["disc", "ring", "square", "target"]
    radius: float
    labelled: bool = False


#: Kinds of trials; later ones lie on top of earlier ones.
KINDS = {
    "infeasible": Kind("breaks a constraint", "", "muted", "ring", 4.0),
    "failed": Kind("failed", "", "muted", "ring", 4.0),
    "feasible": Kind("other trials", "", "faint", "disc", 4.0),
    "base": Kind("float base", "the float base", "ink", "square", 5.0, labelled=True),
    "front": Kind("front", "on the front", "accent", "disc", 5.5, labelled=True),
    "selected": Kind("selected", "selected", "accent", "target", 6.5, labelled=True),
}
#: Candidates whose layers are all quantized alike, and the line of the best of them.
UNIFORM_LEGEND = "all layers alike, and the best of these"


@dataclass(frozen=True)
class PlotPoint:
    """One trial.

    Attributes:
        number: of the trial.
        kind: one of ``KINDS``.
        x: value, low and high; an end that is unknown is the value.
        y: likewise.
        tooltip: its standing, recipe and measurements, in lines.
        uniform: all its layers are quantized alike.
    """

    number: int
    kind: str
    x: tuple[float, float, float]
    y: tuple[float, float, float]
    tooltip: str
    uniform: bool = False

    @property
    def label(self) -> str:
        """The words beside it; empty where it has none."""
        if not KINDS[self.kind].labelled:
            return ""
        return {"base": "base", "selected": f"trial {self.number}, selected"}.get(self.kind, str(self.number))


@dataclass(frozen=True)
class FrontDrawing:
    """Two metrics of every trial that has both.

    Attributes:
        x: metric to the right.
        y: metric upwards.
        points: in the order in which they are drawn.
        bound: the constraint on ``y``, if there is one.
        stairs: vertices of the line that the front guarantees; empty beside more than two objectives.
        uniform_stairs: the same of candidates whose layers are all quantized alike.
    """

    x: str
    y: str
    points: tuple[PlotPoint, ...]
    bound: Constraint | None = None
    stairs: tuple[Vertex, ...] = ()
    uniform_stairs: tuple[Vertex, ...] = ()

    @property
    def empty(self) -> bool:
        """True where no candidate has both metrics."""
        return all(point.kind == "base" for point in self.points)


def plot_pairs(objectives: tuple[str, ...]) -> list[tuple[str, str]]:
    """The (x, y) metrics of each drawing: quality upwards, the others to the right, times as speedups."""
    shown = headline_metrics(objectives)[: len(objectives)]
    up = next((name for name in shown if METRICS[name].family in ("quality", "task")), shown[-1])
    return [(name, up) for name in shown if name != up]


def draw_front(view: StudyView, x: str, y: str) -> FrontDrawing:
    """Describe the scatter of two metrics.

    Args:
        view: the study.
        x: metric to the right.
        y: metric upwards.
    """
    points = _points(view, x, y)
    bounds = [constraint for text in view.constraints if (constraint := parse_constraint(text)).metric == y]
    lines: list[tuple[Vertex, ...]] = [(), ()]
    if len(view.objectives) == 2:
        groups = [p for p in points if p.kind in ("front", "selected")], [p for p in points if p.uniform]
        lines = [_stairs(group, x, y) for group in groups]
    return FrontDrawing(x, y, tuple(points), next(iter(bounds), None), *lines)


def _points(view: StudyView, x: str, y: str) -> list[PlotPoint]:
    members = {member.number for member in view.members}
    axes = varying(view.records)
    points = []
    for record in view.records:
        shown = view.shown(record)
        if x not in shown.metrics or y not in shown.metrics:
            continue
        kind = _kind(record, shown.number in members, view.outcome.trial)
        tooltip = _tooltip(shown, kind, axes, x, y)
        uniform = record.feasible and is_uniform(record.params)
        points.append(PlotPoint(record.number, kind, _ends(shown, x), _ends(shown, y), tooltip, uniform))
    return sorted(points, key=lambda point: list(KINDS).index(point.kind))


def _kind(record: TrialRecord, member: bool, selected: int | None) -> str:
    if record.number == selected:
        return "selected"
    if member:
        return "front"
    if record.number == 0:
        return "base"
    return "feasible" if record.feasible else record.state


def _ends(record: TrialRecord, metric: str) -> tuple[float, float, float]:
    measured = record.metrics[metric]
    low, high = (end if math.isfinite(end) else measured.value for end in (measured.low, measured.high))
    return measured.value, low, high


def _tooltip(record: TrialRecord, kind: str, axes: list[str], x: str, y: str) -> str:
    lines = [f"trial {record.number}, {KINDS[kind].state or record.state}", params_text(record.params, axes)]
    shown = [name for name in dict.fromkeys([x, y, *HEADLINES]) if name in record.metrics]
    lines += [f"{title(name)} {interval_text(record.metrics[name])}" for name in shown]
    return "\n".join(line for line in [*lines, record.reason] if line)


def _stairs(members: Sequence[PlotPoint], x: str, y: str) -> tuple[Vertex, ...]:
    """Vertices of the attainment line: a staircase through the best of some trials, which they guarantee together."""
    costs = np.array([[directed(x, p.x[0]), directed(y, p.y[0])] for p in members]).reshape(-1, 2)
    best = sorted((p.x[0], p.y[0]) for p, keep in zip(members, nondominated(costs), strict=True) if keep)
    if len(best) < 2:
        return ()
    vertices = [best[0]]
    for left, right in pairwise(best):
        # Where more of x is better, the right member's y holds from the left one on; else the left one's.
        corner = (left[0], right[1]) if METRICS[x].direction == "maximize" else (right[0], left[1])
        vertices += [corner, right]
    return tuple(vertices)
