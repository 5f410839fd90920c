"""The frame that the report's pictures share: a linear scale, round ticks, a grid and axis titles as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from olivine.evaluators.metric import METRICS
from olivine.search.report.plots.colors import css_variables

PLOT_STYLE = """
.plot text{font:12px system-ui,-apple-system,"Segoe UI",sans-serif;fill:var(--muted)}
.plot .title{font-size:12.5px;fill:var(--ink)}
.plot .grid{stroke:var(--line);stroke-width:1}
.plot .bound{stroke:var(--muted);stroke-width:1.2;stroke-dasharray:5 4}
.plot .beyond{fill:var(--muted);opacity:.07}
.plot .step{fill:none;stroke:var(--accent);stroke-width:1.8;opacity:.55}
.plot .uniform-step{fill:none;stroke:var(--muted);stroke-width:1.4;stroke-dasharray:1.5 4;stroke-linecap:round}
.plot .uniform{fill:none;stroke:var(--muted);stroke-width:1.2;stroke-dasharray:1.5 2.5}
.plot .area{fill:var(--accent);opacity:.1}
.plot .bars{stroke-width:1.2;stroke:var(--faint)}
.plot .feasible{fill:var(--faint)}
.plot .infeasible,.plot .failed{fill:none;stroke:var(--muted);stroke-width:1.4;opacity:.75}
.plot .base{fill:var(--ink)}
.plot .front,.plot .selected{fill:var(--accent)}
.plot .front-bars{stroke-width:1.5;stroke:var(--accent);opacity:.75}
.plot .ring{fill:none;stroke:var(--accent);stroke-width:2}
.plot .halo{fill:var(--accent);opacity:.16}
.plot .label{fill:var(--ink);font-variant-numeric:tabular-nums}
.plot .chosen{font-weight:650;font-size:13px}
.plot .mark:focus{outline:2px solid var(--accent);outline-offset:3px}
"""


@dataclass(frozen=True)
class Scale:
    """Maps values linearly to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of ``value``, clipped to the axis."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def holds(self, value: float) -> bool:
        """True when ``value`` lies on the axis."""
        return self.low <= value <= self.high


def padded(values: Sequence[float], share: float = 0.07) -> tuple[float, float]:
    """A range around finite ``values``, wider than they are by ``share`` on either side."""
    low, high = min(values), max(values)
    margin = share * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round values within a range, near ``about`` of them: multiples of 1, 2 or 5 times a power of ten.

    Source: Heckbert (1990), Nice numbers for graph labels, Graphics Gems.
    """
    rough = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(nice for nice in (1, 2, 5, 10) if nice >= rough / power - 1e-9)
    first = math.ceil(low / step - 1e-9)
    return [(first + i) * step for i in range(math.floor(high / step + 1e-9) - first + 1)]


def tick_text(metric: str, value: float, step: float) -> str:
    """A tick's label, with the decimals that its neighbours need."""
    if METRICS[metric].unit == "bytes":
        return f"{value / 1e6:.0f} MB" if step >= 1e6 else f"{value / 1e3:.0f} kB"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:.{decimals}f}{'x' if METRICS[metric].format == 'factor' else ''}"


def axes_svg(x: Scale, y: Scale, names: tuple[str, str], titles: tuple[str, str]) -> str:
    """Grid, tick labels and titles; the y title stands above its axis, where it reads upright."""
    parts = []
    x_ticks = ticks(x.low, x.high, max(3, int((x.end - x.start) / 90)))
    y_ticks = ticks(y.low, y.high, max(3, int((y.start - y.end) / 60)))
    for value in y_ticks:
        text = tick_text(names[1], value, _step(y_ticks))
        parts.append(f'<path class="grid" d="M{x.start:.1f} {y(value):.1f}H{x.end:.1f}"/>')
        parts.append(f'<text x="{x.start - 8:.1f}" y="{y(value) + 4:.1f}" text-anchor="end">{escape(text)}</text>')
    for value in x_ticks:
        text = tick_text(names[0], value, _step(x_ticks))
        parts.append(f'<path class="grid" d="M{x(value):.1f} {y.start:.1f}V{y.end:.1f}"/>')
        parts.append(f'<text x="{x(value):.1f}" y="{y.start + 18:.1f}" text-anchor="middle">{escape(text)}</text>')
    parts.append(f'<text class="title" x="4" y="16">{escape(titles[1])}</text>')
    below = y.start + 38
    parts.append(f'<text class="title" x="{x.end:.1f}" y="{below:.1f}" text-anchor="end">{escape(titles[0])}</text>')
    return "".join(parts)


def _step(values: Sequence[float]) -> float:
    return values[1] - values[0] if len(values) > 1 else abs(values[0]) or 1.0


def svg(width: float, height: float, label: str, body: str, standalone: bool = False) -> str:
    """The whole picture; ``standalone`` adds colours, style and background, which the report's page brings itself."""
    style = f"<style>{css_variables()}{PLOT_STYLE}</style>" if standalone else ""
    ground = '<rect width="100%" height="100%" fill="var(--card)"/>' if standalone else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" aria-label="{escape(label)}">'
        f"{style}{ground}{body}</svg>"
    )
