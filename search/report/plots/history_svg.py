"""The history of the hypervolume as a picture: how fast the front grew, and whether it still does."""

from __future__ import annotations

from collections.abc import Sequence

from olivine.search.report.plots.svg_axes import Scale, svg, ticks


def history_svg(numbers: Sequence[int], history: Sequence[float], width: float = 880, height: float = 210) -> str:
    """A staircase of the hypervolume after each trial, as a share of the last one; empty without any front.

    Args:
        numbers: trial numbers.
        history: hypervolume after each of them.
        width: in pixels.
        height: in pixels.
    """
    if len(history) < 2 or history[-1] <= 0:
        return ""
    x = Scale(numbers[0], numbers[-1], 50, width - 18)
    y = Scale(0.0, 1.0, height - 46, 14)
    parts = []
    for share in (0.0, 0.5, 1.0):
        parts.append(f'<line class="grid" x1="50" x2="{width - 18:.1f}" y1="{y(share):.1f}" y2="{y(share):.1f}"/>')
        parts.append(f'<text x="42" y="{y(share) + 4:.1f}" text-anchor="end">{100 * share:.0f} %</text>')
    for number in sorted({round(tick) for tick in ticks(x.low, x.high, max(3, int(width / 110)))}):
        if x.holds(number):
            parts.append(f'<text x="{x(number):.1f}" y="{y.start + 18:.1f}" text-anchor="middle">{number}</text>')
    parts.append(f'<text class="title" x="{x.end:.1f}" y="{y.start + 38:.1f}" text-anchor="end">trial</text>')
    path = f"M{x(numbers[0]):.1f} {y(history[0] / history[-1]):.1f}"
    for number, value in zip(numbers[1:], history[1:], strict=True):
        path += f"H{x(number):.1f}V{y(value / history[-1]):.1f}"
    parts.append(f'<path class="area" d="{path}V{y.start:.1f}H{x.start:.1f}Z"/><path class="step" d="{path}"/>')
    return svg(width, height, "hypervolume of the front after each trial", "".join(parts))
