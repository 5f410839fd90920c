"""The picture of the benchmark: decode, prefill and bytes against KL divergence, a line for each engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from peers.texts import ENCYCLOPEDIA

from olivine.evaluators.peers.measured import Measured
from olivine.evaluators.peers.rows import BUILDER, ENGINES, LLAMA, OLIVINE, OPENVINO
from olivine.search.report.plots.colors import css_variables
from olivine.search.report.plots.svg_axes import PLOT_STYLE, Scale, padded, ticks

WIDTH, HEIGHT, GAP, TOP, BOTTOM = 1120, 400, 62, 74, 350
#: Colours of the engines that read on a light and on a dark ground; olivine's is that of the report.
COLORS = {OLIVINE: "var(--accent)", LLAMA: "#c8553d", OPENVINO: "#3f7cbf", BUILDER: "#9a7bb0"}
#: KL divergences beyond are of models that nobody ships, and nearer to zero than the first tick is as good as float.
KL_TICKS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
Value = Callable[[Measured], float]
PANELS: tuple[tuple[str, Value, bool], ...] = (
    ("decode, tokens per second ↑", lambda row: row.rate("decode"), True),
    ("prefill, tokens per second ↑", lambda row: row.rate("prefill"), True),
    ("deployed, MB ↓", lambda row: row.bytes / 1e6, False),
)


def picture(rows: Sequence[Measured]) -> str:
    """SVG that follows the reader's light or dark setting; rows of float models are left out."""
    shown = [row for row in rows if row.timed and row.divergence(ENCYCLOPEDIA).value >= KL_TICKS[0] / 2]
    across = (WIDTH - GAP) / len(PANELS)
    panels = (
        _panel(shown, title, value, more, Scale(*_kl_range(shown), GAP + place * across, (place + 1) * across))
        for place, (title, value, more) in enumerate(PANELS)
    )
    label = "Decode, prefill and bytes against KL divergence from the float model, for each engine"
    style = f"<style>{css_variables()}{PLOT_STYLE}</style>"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" role="img" aria-label="{escape(label)}">{style}'
        f'<rect width="100%" height="100%" fill="var(--card)"/>{_legend()}{"".join(panels)}</svg>\n'
    )


def front(points: Sequence[tuple[float, float]], more: bool) -> list[tuple[float, float]]:
    """The points that none beats in both KL divergence and the other value, by KL divergence.

    Args:
        points: of KL divergence and another value.
        more: more of the other value is better.
    """
    kept: list[tuple[float, float]] = []
    for kl, value in sorted(points, key=lambda point: (point[0], -point[1] if more else point[1])):
        if not kept or (value > kept[-1][1] if more else value < kept[-1][1]):
            kept.append((kl, value))
    return kept


def _kl_range(rows: Sequence[Measured]) -> tuple[float, float]:
    return padded([math.log(row.divergence(ENCYCLOPEDIA).value) for row in rows])


def _panel(rows: Sequence[Measured], title: str, value: Value, more: bool, x: Scale) -> str:
    """Grid, the line of each engine through its points that none of its others beats, and all points."""
    known = [row for row in rows if not math.isnan(value(row))]
    y = Scale(*padded([value(row) for row in known] or [0.0, 1.0]), BOTTOM, TOP)
    parts = [f'<text class="title" x="{x.start - 48:.0f}" y="{TOP - 14}">{escape(title)}</text>']
    for tick in ticks(y.low, y.high, 5):
        parts.append(f'<path class="grid" d="M{x.start:.1f} {y(tick):.1f}H{x.end:.1f}"/>')
        parts.append(f'<text x="{x.start - 7:.1f}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in KL_TICKS:
        if x.holds(math.log(tick)):
            parts.append(f'<path class="grid" d="M{x(math.log(tick)):.1f} {BOTTOM}V{TOP}"/>')
            parts.append(f'<text x="{x(math.log(tick)):.1f}" y="{BOTTOM + 18}" text-anchor="middle">{tick:g}</text>')
    parts.append(
        f'<text class="title" x="{x.end:.0f}" y="{BOTTOM + 37}" text-anchor="end">← KL divergence, nats a token</text>'
    )
    for engine in reversed(ENGINES):
        own = [row for row in known if row.engine == engine]
        line = front([(row.divergence(ENCYCLOPEDIA).value, value(row)) for row in own], more)
        path = " L".join(f"{x(math.log(kl)):.1f} {y(height):.1f}" for kl, height in line)
        parts += [f'<path d="M{path}" fill="none" stroke="{COLORS[engine]}" stroke-width="2"/>'] * (len(line) > 1)
        parts += [_point(row, x(math.log(row.divergence(ENCYCLOPEDIA).value)), y(value(row))) for row in own]
    return "".join(parts)


def _point(row: Measured, across: float, up: float) -> str:
    return (
        f'<circle cx="{across:.1f}" cy="{up:.1f}" r="4" fill="{COLORS[row.engine]}">'
        f"<title>{escape(row.title)}</title></circle>"
    )


def _legend() -> str:
    return "".join(
        f'<circle cx="{20 + 140 * place}" cy="22" r="5" fill="{COLORS[engine]}"/>'
        f'<text class="title" x="{31 + 140 * place}" y="26">{escape(engine)}</text>'
        for place, engine in enumerate(ENGINES)
    )
