"""The drawing of the front as a plotly figure for the dashboard, whose own Pareto plot ignores limits and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from olivine.evaluators.metric import METRICS
from olivine.search.report.formatting import title
from olivine.search.report.plots.colors import LIGHT
from olivine.search.report.plots.front import KINDS, UNIFORM_LEGEND, FrontDrawing, PlotPoint, Vertex

if TYPE_CHECKING:
    import plotly.graph_objects as go

#: Shape of a kind of trial -> plotly's symbol.
_SYMBOLS = {"disc": "circle", "ring": "circle-open", "square": "square", "target": "star"}


def front_figure(drawing: FrontDrawing, study: str) -> go.Figure:
    """The drawing with a trace for each kind of trial.

    Args:
        drawing: the front.
        study: name of the study.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    if drawing.uniform_stairs:
        figure.add_trace(go.Scatter(**_line(drawing.uniform_stairs, UNIFORM_LEGEND, LIGHT["muted"], "dot")))
    if drawing.stairs:
        figure.add_trace(go.Scatter(**_line(drawing.stairs, "line of the front", LIGHT["accent"], "solid")))
    for kind in KINDS:
        points = sorted((point for point in drawing.points if point.kind == kind), key=lambda point: point.x[0])
        if points:
            figure.add_trace(go.Scatter(**_trace(points, kind)))
    if drawing.bound is not None:
        words = f"{drawing.bound.metric} {drawing.bound.relation} {drawing.bound.bound:g}"
        line = {"dash": "dash", "width": 1, "color": LIGHT["muted"]}
        figure.add_hline(
            y=drawing.bound.bound, line=line, annotation_text=escape(words), annotation_position="top left"
        )
    figure.update_layout(
        title={"text": f"olivine: feasible front of {escape(study)}"},
        template="plotly_white",
        xaxis={"title": {"text": _axis(drawing.x)}},
        yaxis={"title": {"text": _axis(drawing.y)}},
        legend={"orientation": "h", "y": -0.2},
        hovermode="closest",
    )
    return figure


def _line(vertices: Sequence[Vertex], name: str, color: str, dash: str) -> dict[str, Any]:
    return {
        "x": [x for x, _ in vertices],
        "y": [y for _, y in vertices],
        "mode": "lines",
        "line": {"color": color, "width": 1.5, "dash": dash},
        "hoverinfo": "skip",
        "name": name,
    }


def _trace(points: Sequence[PlotPoint], name: str) -> dict[str, Any]:
    kind = KINDS[name]
    color, outline = LIGHT[kind.tone], LIGHT["muted"]
    return {
        "x": [point.x[0] for point in points],
        "y": [point.y[0] for point in points],
        "error_x": _error([point.x for point in points], color),
        "error_y": _error([point.y for point in points], color),
        # plotly reads a little HTML in texts.
        "hovertext": [escape(point.tooltip).replace("\n", "<br>") for point in points],
        "hoverinfo": "text",
        "mode": "markers+text" if kind.labelled else "markers",
        "text": [escape(point.label) for point in points],
        "textposition": "top right",
        "name": kind.legend,
        "marker": {
            "color": color,
            "symbol": _SYMBOLS[kind.shape],
            "size": 17 if kind.shape == "target" else 2 * kind.radius,
            "line": {"color": outline, "width": [1.5 * (point.uniform or kind.shape == "ring") for point in points]},
        },
    }


def _error(ends: Sequence[tuple[float, float, float]], color: str) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - value for value, _, high in ends],
        "arrayminus": [value - low for value, low, _ in ends],
        "thickness": 1,
        "width": 0,
        "color": color,
    }


def _axis(metric: str) -> str:
    return f"{title(metric)} ({'more' if METRICS[metric].direction == 'maximize' else 'less'} is better)"
