"""The front as a plotly figure for the dashboard, whose own Pareto plot ignores feasibility and intervals."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from olivine.evaluators.metric import METRICS
from olivine.search.report.formatting import title
from olivine.search.report.plots.points import PlotPoint, marks
from olivine.search.report.study_view import StudyView

if TYPE_CHECKING:
    import plotly.graph_objects as go

_STYLES: dict[str, dict[str, Any]] = {
    "feasible": {"name": "other trials", "color": "#8b9182", "symbol": "circle", "size": 7},
    "infeasible": {"name": "breaks a constraint", "color": "#8b9182", "symbol": "circle-open", "size": 8},
    "failed": {"name": "failed", "color": "#8b9182", "symbol": "x-thin-open", "size": 8},
    "base": {"name": "float base", "color": "#33372b", "symbol": "square", "size": 10},
    "front": {"name": "front", "color": "#55752f", "symbol": "circle", "size": 10},
    "selected": {"name": "selected", "color": "#55752f", "symbol": "star", "size": 17},
}


def front_figure(view: StudyView, x: str, y: str) -> go.Figure:
    """Two metrics of every trial that has both, with error bars, a trace per kind of trial.

    Args:
        view: the study.
        x: metric to the right.
        y: metric upwards.
    """
    import plotly.graph_objects as go

    found = marks(view, x, y)
    figure = go.Figure()
    for kind, style in _STYLES.items():
        chosen = sorted((mark for mark in found if mark.kind == kind), key=lambda mark: mark.x[0])
        if chosen:
            figure.add_trace(go.Scatter(**_trace(chosen, style)))
    figure.update_layout(
        title={"text": f"olivine: feasible front of {escape(view.name)}"},
        template="plotly_white",
        xaxis={"title": {"text": _axis(x)}},
        yaxis={"title": {"text": _axis(y)}},
        legend={"orientation": "h", "y": -0.2},
        hovermode="closest",
    )
    return figure


def _trace(chosen: list[PlotPoint], style: dict[str, Any]) -> dict[str, Any]:
    return {
        "x": [mark.x[0] for mark in chosen],
        "y": [mark.y[0] for mark in chosen],
        "error_x": _error([mark.x for mark in chosen], style["color"]),
        "error_y": _error([mark.y for mark in chosen], style["color"]),
        # plotly reads a little HTML in texts.
        "hovertext": [escape(mark.tooltip).replace("\n", "<br>") for mark in chosen],
        "hoverinfo": "text",
        "mode": "markers",
        "name": style["name"],
        "marker": {"color": style["color"], "symbol": style["symbol"], "size": style["size"]},
    }


def _error(triples: list[tuple[float, float, float]], color: str) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - value for value, _, high in triples],
        "arrayminus": [value - low for value, low, _ in triples],
        "thickness": 1,
        "width": 0,
        "color": color,
    }


def _axis(metric: str) -> str:
    return f"{title(metric)} ({'more' if METRICS[metric].direction == 'maximize' else 'less'} is better)"
