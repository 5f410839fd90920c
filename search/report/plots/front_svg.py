"""The picture of the front: every trial, error bars, base, constraint, the front linked, the selection."""

from __future__ import annotations

from html import escape
from itertools import pairwise

import numpy as np

from olivine.evaluators.metric import METRICS
from olivine.search.config.constraints import parse_constraint
from olivine.search.pareto import nondominated
from olivine.search.report.formatting import title
from olivine.search.report.plots.points import PlotPoint, marks, plot_pairs
from olivine.search.report.plots.svg_axes import Scale, axes_svg, padded, svg
from olivine.search.report.plots.svg_labels import Box, place
from olivine.search.report.study_view import StudyView, read_view
from olivine.search.study_dir import StudyDir


def front_picture(study: StudyDir) -> str:
    """The front as an SVG file of its own, which follows the reader's light or dark setting; empty where none is."""
    view = read_view(study)
    x, y = plot_pairs(view.objectives)[0]
    return front_svg(view, x, y, standalone=True)


def front_svg(
    view: StudyView, x: str, y: str, width: float = 880, height: float = 470, standalone: bool = False
) -> str:
    """The scatter of two metrics as SVG; empty where no candidate has both.

    Args:
        view: the study.
        x: metric to the right.
        y: metric upwards.
        width: in pixels.
        height: in pixels.
        standalone: whether the picture has to carry its own style, as a file of its own does.
    """
    points = marks(view, x, y)
    if all(mark.kind == "base" for mark in points):
        return ""
    bound = _bound(view, y)
    right = Scale(*_range(points, "x", None), 64, width - 18)
    up = Scale(*_range(points, "y", bound), height - 50, 30)
    body = [axes_svg(right, up, (x, y), (_axis_title(x, "→", "←"), _axis_title(y, "↑", "↓")))]
    if bound is not None and up.holds(bound):
        body.append(
            _bound_svg(bound, f"{y} {'<=' if METRICS[y].direction == 'minimize' else '>='} {bound:g}", right, up)
        )
    stairs: list[tuple[float, float]] = []
    if len(view.objectives) == 2:
        uniform = _stairs([mark for mark in points if mark.uniform], (x, y), right, up)
        stairs = _stairs([mark for mark in points if mark.kind in ("front", "selected")], (x, y), right, up)
        body += [_path(kind, line) for kind, line in (("uniform-step", uniform), ("step", stairs)) if line]
    body += [_error_bars(mark, right, up) for mark in points]
    body += [_mark_svg(mark, right, up) for mark in points]
    body.append(_labels(points, stairs, right, up, width < 600))
    label = f"{title(y)} against {title(x)} of {len(points)} trials"
    return svg(width, height, label, "".join(body), standalone)


def _range(points: list[PlotPoint], side: str, bound: float | None) -> tuple[float, float]:
    """From the trials that count; infeasible ones beyond go to the edge, lest they squeeze the front."""
    kept = [mark for mark in points if mark.kind not in ("infeasible", "failed")]
    if len(kept) < 2:
        kept = points
    values = [value for mark in kept for value in (mark.x if side == "x" else mark.y)]
    low, high = min(values), max(values)
    if bound is not None and low - 0.5 * (high - low) <= bound <= high + 0.5 * (high - low):
        values.append(bound)
    return padded(values)


def _bound(view: StudyView, y: str) -> float | None:
    found = [c for text in view.constraints if (c := parse_constraint(text)).metric == y]
    return found[0].bound if found else None


def _bound_svg(bound: float, text: str, x: Scale, y: Scale) -> str:
    row = y(bound)
    worse = (y.end, row) if text.find("<=") > 0 else (row, y.start)
    return (
        f'<rect class="beyond" x="{x.start:.1f}" y="{worse[0]:.1f}" width="{x.end - x.start:.1f}" '
        f'height="{max(0.0, worse[1] - worse[0]):.1f}"/>'
        f'<line class="bound" x1="{x.start:.1f}" x2="{x.end:.1f}" y1="{row:.1f}" y2="{row:.1f}"/>'
        f'<text x="{x.start + 6:.1f}" y="{row - 6:.1f}">{escape(text)}</text>'
    )


def _axis_title(metric: str, more: str, less: str) -> str:
    maximize = METRICS[metric].direction == "maximize"
    return f"{title(metric)}, {'more' if maximize else 'less'} is better {more if maximize else less}"


def _path(kind: str, vertices: list[tuple[float, float]]) -> str:
    return f'<path class="{kind}" d="M{" L".join(f"{a:.1f} {b:.1f}" for a, b in vertices)}"/>'


def _stairs(members: list[PlotPoint], names: tuple[str, str], x: Scale, y: Scale) -> list[tuple[float, float]]:
    """Vertices of the attainment line: what the best of some trials guarantee, a staircase through them."""
    sign = np.array([-1.0 if METRICS[name].direction == "maximize" else 1.0 for name in names])
    kept = nondominated(sign * np.array([[m.x[0], m.y[0]] for m in members]).reshape(-1, 2))
    front = sorted((m for m, keep in zip(members, kept, strict=True) if keep), key=lambda m: m.x[0])
    if len(front) < 2:
        return []
    vertices = [(x(front[0].x[0]), y(front[0].y[0]))]
    for left, right in pairwise(front):
        # Where more of x is better, the right member's y holds from the left one on; else the left one's.
        corner = (left.x[0], right.y[0]) if sign[0] < 0 else (right.x[0], left.y[0])
        vertices += [(x(corner[0]), y(corner[1])), (x(right.x[0]), y(right.y[0]))]
    return vertices


def _error_bars(mark: PlotPoint, x: Scale, y: Scale) -> str:
    if mark.kind in ("infeasible", "failed") and not y.holds(mark.y[0]):
        return ""
    kind = "front-bars" if mark.kind in ("front", "selected") else "bars"
    column, row = x(mark.x[0]), y(mark.y[0])
    return (
        f'<path class="{kind}" d="M{x(mark.x[1]):.1f} {row:.1f}H{x(mark.x[2]):.1f}'
        f'M{column:.1f} {y(mark.y[1]):.1f}V{y(mark.y[2]):.1f}"/>'
    )


def _mark_svg(mark: PlotPoint, x: Scale, y: Scale) -> str:
    """A shape of its own for each kind, so that colour is not needed to tell them apart."""
    column, row = x(mark.x[0]), y(mark.y[0])
    beyond = not (x.holds(mark.x[0]) and y.holds(mark.y[0]))
    if mark.kind in ("infeasible", "failed"):
        shape = (
            _triangle(column, row) if beyond else f'<circle class="infeasible" cx="{column:.1f}" cy="{row:.1f}" r="4"/>'
        )
    elif mark.kind == "base":
        shape = f'<rect class="base" x="{column - 5:.1f}" y="{row - 5:.1f}" width="10" height="10"/>'
    else:
        radius = {"feasible": 4.0, "front": 5.5, "selected": 6.5}[mark.kind]
        shape = f'<circle class="{mark.kind}" cx="{column:.1f}" cy="{row:.1f}" r="{radius}"/>'
        if mark.uniform:
            shape += f'<circle class="uniform" cx="{column:.1f}" cy="{row:.1f}" r="{radius + 3}"/>'
        if mark.kind == "selected":
            shape = (
                f'<circle class="halo" cx="{column:.1f}" cy="{row:.1f}" r="17"/>'
                f'<circle class="ring" cx="{column:.1f}" cy="{row:.1f}" r="11"/>{shape}'
            )
    text = escape(mark.tooltip)
    return f'<g class="mark" tabindex="0" role="img" aria-label="{text}" data-tip="{text}">{shape}</g>'


def _triangle(column: float, row: float) -> str:
    return f'<path class="infeasible" d="M{column:.1f} {row - 1:.1f}l5 9h-10z"/>'


def _labels(points: list[PlotPoint], stairs: list[tuple[float, float]], x: Scale, y: Scale, narrow: bool) -> str:
    """Numbers of the base and of the front's members, each where it covers no mark, line or other label."""
    taken = [Box.around(x(m.x[0]), y(m.y[0]), 13.0 if m.kind == "selected" else 6.0) for m in points]
    taken += [Box(x(m.x[1]), y(m.y[0]) - 1, x(m.x[2]), y(m.y[0]) + 1) for m in points]
    taken += [Box(x(m.x[0]) - 1, y(m.y[2]), x(m.x[0]) + 1, y(m.y[1])) for m in points]
    taken += [Box(min(a, c) - 1, min(b, d) - 1, max(a, c) + 1, max(b, d) + 1) for (a, b), (c, d) in pairwise(stairs)]
    inside = Box(x.start, y.end, x.end, y.start)
    parts = []
    for mark in sorted(points, key=lambda m: m.kind != "selected"):
        if mark.kind not in ("base", "front", "selected"):
            continue
        text = "base" if mark.kind == "base" else f"{mark.number}"
        if mark.kind == "selected":
            text = f"{mark.number}" if narrow else f"trial {mark.number}, selected"
        gap = 15.0 if mark.kind == "selected" else 9.0
        box = place(x(mark.x[0]), y(mark.y[0]), 7.2 * len(text), gap, taken, inside)
        if box is None:
            continue
        taken.append(box)
        kind = "label chosen" if mark.kind == "selected" else "label"
        parts.append(
            f'<text class="{kind}" x="{(box.left + box.right) / 2:.1f}" y="{box.bottom - 3.5:.1f}" '
            f'text-anchor="middle">{escape(text)}</text>'
        )
    return "".join(parts)
