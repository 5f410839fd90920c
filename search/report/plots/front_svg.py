"""The drawing of the front as SVG, for the report and for a README: it needs no script and no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise

from olivine.evaluators.metric import METRICS
from olivine.search.config.constraints import Constraint
from olivine.search.report.formatting import title
from olivine.search.report.plots.front import (
    KINDS,
    UNIFORM_LEGEND,
    FrontDrawing,
    PlotPoint,
    Vertex,
    draw_front,
    plot_pairs,
)
from olivine.search.report.plots.svg_axes import Scale, axes_svg, padded, svg
from olivine.search.report.plots.svg_labels import Box, place
from olivine.search.report.study_view import read_view
from olivine.search.study_dir import StudyDir

#: Pictures narrower than this have shorter labels.
NARROW = 600


def front_picture(study: StudyDir) -> str:
    """The front as an SVG file of its own, which follows the reader's light or dark setting; empty where none is."""
    view = read_view(study)
    return front_svg(draw_front(view, *plot_pairs(view.objectives)[0]), standalone=True)


def front_svg(drawing: FrontDrawing, width: float = 880, height: float = 470, standalone: bool = False) -> str:
    """The drawing as SVG; empty where no candidate has both metrics.

    Args:
        drawing: the front.
        width: in pixels.
        height: in pixels.
        standalone: the picture carries its own style, as a file of its own must.
    """
    if drawing.empty:
        return ""
    points, bound = drawing.points, drawing.bound
    x = Scale(*_range([p.x for p in _ranged(points)], None), 64, width - 18)
    y = Scale(*_range([p.y for p in _ranged(points)], bound), height - 50, 30)
    body = [
        axes_svg(x, y, (drawing.x, drawing.y), (_axis_title(drawing.x, "→", "←"), _axis_title(drawing.y, "↑", "↓")))
    ]
    if bound is not None and y.holds(bound.bound):
        body.append(_bound_svg(bound, x, y))
    stairs = _scaled(drawing.stairs, x, y)
    lines = (("uniform-step", _scaled(drawing.uniform_stairs, x, y)), ("step", stairs))
    body += [
        f'<path class="{kind}" d="M{" L".join(f"{a:.1f} {b:.1f}" for a, b in line)}"/>' for kind, line in lines if line
    ]
    body += [_error_bars(point, x, y) for point in points]
    body += [_point_svg(point, x, y) for point in points]
    body.append(_labels(points, stairs, x, y, width < NARROW))
    label = f"{title(drawing.y)} against {title(drawing.x)} of {len(points)} trials"
    return svg(width, height, label, "".join(body), standalone)


def legend(drawing: FrontDrawing) -> list[tuple[str, str]]:
    """A symbol as SVG and its words, for each kind of trial in the drawing, the front first."""
    entries = []
    for name, kind in reversed(KINDS.items()):
        if any(point.kind == name for point in drawing.points):
            beyond = " (a triangle: beyond the edge)" if name == "infeasible" else ""
            entries.append((_symbol_svg(20, _shape(name, 10, 10, kind.radius, 8.5)), kind.legend + beyond))
    if drawing.uniform_stairs:
        line = '<path class="uniform-step" d="M1 10H29"/>'
        entries.append((_symbol_svg(30, line + _shape("feasible", 15, 10, 4) + _uniform(15, 10, 4)), UNIFORM_LEGEND))
    return entries


def _symbol_svg(width: int, body: str) -> str:
    return f'<svg width="{width}" height="20" aria-hidden="true">{body}</svg>'


def _ranged(points: Sequence[PlotPoint]) -> Sequence[PlotPoint]:
    """The points that an axis reaches to; infeasible ones beyond go to the edge, lest they squeeze the front."""
    feasible = [point for point in points if point.kind not in ("infeasible", "failed")]
    return feasible if len(feasible) > 1 else points


def _range(ends: Sequence[tuple[float, ...]], bound: Constraint | None) -> tuple[float, float]:
    values = [value for point in ends for value in point]
    low, high = min(values), max(values)
    if bound is not None and low - 0.5 * (high - low) <= bound.bound <= high + 0.5 * (high - low):
        values.append(bound.bound)
    return padded(values)


def _scaled(vertices: Sequence[Vertex], x: Scale, y: Scale) -> list[Vertex]:
    return [(x(across), y(up)) for across, up in vertices]


def _bound_svg(constraint: Constraint, x: Scale, y: Scale) -> str:
    row = y(constraint.bound)
    top, bottom = (y.end, row) if constraint.relation == "<=" else (row, y.start)
    text = f"{constraint.metric} {constraint.relation} {constraint.bound:g}"
    return (
        f'<rect class="beyond" x="{x.start:.1f}" y="{top:.1f}" width="{x.end - x.start:.1f}" '
        f'height="{max(0.0, bottom - top):.1f}"/>'
        f'<line class="bound" x1="{x.start:.1f}" x2="{x.end:.1f}" y1="{row:.1f}" y2="{row:.1f}"/>'
        f'<text x="{x.start + 6:.1f}" y="{row - 6:.1f}">{escape(text)}</text>'
    )


def _axis_title(metric: str, more: str, less: str) -> str:
    maximize = METRICS[metric].direction == "maximize"
    return f"{title(metric)}, {'more' if maximize else 'less'} is better {more if maximize else less}"


def _error_bars(point: PlotPoint, x: Scale, y: Scale) -> str:
    if point.kind in ("infeasible", "failed") and not y.holds(point.y[0]):
        return ""
    kind = "front-bars" if point.kind in ("front", "selected") else "bars"
    column, row = x(point.x[0]), y(point.y[0])
    return (
        f'<path class="{kind}" d="M{x(point.x[1]):.1f} {row:.1f}H{x(point.x[2]):.1f}'
        f'M{column:.1f} {y(point.y[1]):.1f}V{y(point.y[2]):.1f}"/>'
    )


def _point_svg(point: PlotPoint, x: Scale, y: Scale) -> str:
    column, row, radius = x(point.x[0]), y(point.y[0]), KINDS[point.kind].radius
    if KINDS[point.kind].shape == "ring" and not (x.holds(point.x[0]) and y.holds(point.y[0])):
        shape = f'<path class="infeasible" d="M{column:.1f} {row - 1:.1f}l5 9h-10z"/>'
    else:
        shape = _shape(point.kind, column, row, radius)
    if point.uniform and point.kind != "base":
        shape += _uniform(column, row, radius)
    text = escape(point.tooltip)
    return f'<g class="mark" tabindex="0" role="img" aria-label="{text}" data-tip="{text}">{shape}</g>'


def _shape(kind: str, column: float, row: float, radius: float, ring: float = 11.0) -> str:
    """The shape of a kind of trial; ``ring`` is the radius of the ring around the selected one."""
    if KINDS[kind].shape == "square":
        left, top, side = column - radius, row - radius, 2 * radius
        return f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{side:g}" height="{side:g}"/>'
    disc = f'<circle class="{kind}" cx="{column:.1f}" cy="{row:.1f}" r="{radius}"/>'
    if KINDS[kind].shape != "target":
        return disc
    halo = f'<circle class="halo" cx="{column:.1f}" cy="{row:.1f}" r="{ring + 6:g}"/>'
    return f'{halo}<circle class="ring" cx="{column:.1f}" cy="{row:.1f}" r="{ring:g}"/>{disc}'


def _uniform(column: float, row: float, radius: float) -> str:
    return f'<circle class="uniform" cx="{column:.1f}" cy="{row:.1f}" r="{radius + 3}"/>'


def _labels(points: Sequence[PlotPoint], stairs: Sequence[Vertex], x: Scale, y: Scale, narrow: bool) -> str:
    """Labels of the base and of the front's members, each where it covers no point, line or other label."""
    occupied = [Box.around(x(p.x[0]), y(p.y[0]), 13.0 if p.kind == "selected" else 6.0) for p in points]
    occupied += [Box(x(p.x[1]), y(p.y[0]) - 1, x(p.x[2]), y(p.y[0]) + 1) for p in points]
    occupied += [Box(x(p.x[0]) - 1, y(p.y[2]), x(p.x[0]) + 1, y(p.y[1])) for p in points]
    occupied += [Box(min(a, c) - 1, min(b, d) - 1, max(a, c) + 1, max(b, d) + 1) for (a, b), (c, d) in pairwise(stairs)]
    inside = Box(x.start, y.end, x.end, y.start)
    parts = []
    for point in sorted((p for p in points if p.label), key=lambda p: p.kind != "selected"):
        selected = point.kind == "selected"
        text = str(point.number) if selected and narrow else point.label
        box = place(x(point.x[0]), y(point.y[0]), 7.2 * len(text), 15.0 if selected else 9.0, occupied, inside)
        if box is None:
            continue
        occupied.append(box)
        parts.append(
            f'<text class="{"label chosen" if selected else "label"}" x="{(box.left + box.right) / 2:.1f}" '
            f'y="{box.bottom - 3.5:.1f}" text-anchor="middle">{escape(text)}</text>'
        )
    return "".join(parts)
