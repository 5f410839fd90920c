"""Two measurements of one metric, compared: the ratio with its interval, and the verdict in words."""

from __future__ import annotations

import math

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.metric import METRICS, Metric
from olivine.evaluators.stats import Interval
from olivine.search.records import TrialRecord
from olivine.search.report.formatting import value_text

#: A factor beyond which an interval has no end.
_ENDLESS = 1e12
_NO_INTERVAL = "no difference found: too few samples for an interval"
#: Factors that differ from 1 by less are shown with a decimal more.
_NEAR = 0.1


def compared_metrics(a: TrialRecord, b: TrialRecord) -> list[str]:
    """The metrics that either trial has, in the order of the vocabulary."""
    known = [name for name in METRICS if name in a.metrics or name in b.metrics]
    return known + sorted((set(a.metrics) | set(b.metrics)) - set(METRICS))


def ratio(a: Measurement, b: Measurement) -> Interval:
    """B's value over A's; the errors of both logarithms add in quadrature, each side by itself.

    Right for independent errors. Trials are scored on the same text, so quality errors go together and the
    interval of a quality ratio is wider than it need be, never too narrow.

    Source: propagation of uncertainty for a quotient, JCGM 100:2008 (GUM), section 5.1.
    """
    centre = math.log(b.value / a.value)
    down = math.hypot(_log_gap(b.value, b.low), _log_gap(a.value, a.high))
    up = math.hypot(_log_gap(b.value, b.high), _log_gap(a.value, a.low))
    return Interval(centre, centre - down, centre + up).exp()


def difference(a: Measurement, b: Measurement) -> Interval:
    """B's value minus A's, errors in quadrature."""
    centre = b.value - a.value
    down, up = math.hypot(b.value - b.low, a.high - a.value), math.hypot(b.high - b.value, a.value - a.low)
    return Interval(centre, centre - down, centre + up)


def _log_gap(value: float, end: float) -> float:
    return abs(math.log(end / value)) if end > 0 and math.isfinite(end) else math.inf


def verdict(a: Measurement | None, b: Measurement | None) -> str:
    """The comparison of two measurements of one metric in words: ``B decodes 1.42x faster, 1.39 to 1.45``."""
    if a is None or b is None:
        return "not measured in both"
    metric = a.metric
    known = METRICS.get(metric)
    if (known is not None and known.by_difference) or min(a.value, b.value) <= 0:
        return _difference_verdict(metric, difference(a, b))
    factor = ratio(a, b)
    if factor.low <= 0 or factor.high > _ENDLESS:
        return _NO_INTERVAL
    if factor.low <= 1 <= factor.high:
        return "equal" if factor.low == factor.high else f"no difference found ({_span(factor)})"
    more, less = Metric.verbs if known is None else known.verbs
    if factor.value > 1:
        return f"B {more.format(f'{_times(factor.value, factor)}x')}{_tail(metric, factor)}"
    turned = Interval(1 / factor.value, 1 / factor.high, 1 / factor.low)
    return f"B {less.format(f'{_times(turned.value, turned)}x')}{_tail(metric, turned)}"


def _difference_verdict(metric: str, interval: Interval) -> str:
    if not math.isfinite(interval.half_width):
        return _NO_INTERVAL
    if interval.low <= 0 <= interval.high:
        span = f"no difference found ({_signed(metric, interval.low)} to {_signed(metric, interval.high)})"
        return "equal" if interval.low == interval.high else span
    better = (interval.value < 0) == (METRICS[metric].direction == "minimize") if metric in METRICS else False
    size, *ends = (_size(metric, x) for x in (abs(interval.value), *sorted((abs(interval.low), abs(interval.high)))))
    span = "" if interval.low == interval.high else f", {' to '.join(ends)}"
    return f"B is {size} {'higher' if interval.value > 0 else 'lower'}{span}: {'better' if better else 'worse'}"


def _size(metric: str, amount: float) -> str:
    """A difference of two values; that of two percentages is in points."""
    return value_text(metric, amount).replace(" %", " points")


def _tail(metric: str, interval: Interval) -> str:
    if interval.low == interval.high:
        # Of a single reading an interval of no width is no precision.
        return ", measured once" if metric in METRICS and METRICS[metric].family == "process" else ""
    return f", {_span(interval)}"


def _span(interval: Interval) -> str:
    return f"{_times(interval.low, interval)} to {_times(interval.high, interval)}"


def _times(factor: float, interval: Interval) -> str:
    """A factor, with a decimal more where all of its interval is near 1: 1.004 is a difference, 1.00 is none."""
    near = max(abs(interval.low - 1), abs(interval.high - 1)) < _NEAR
    return f"{factor:.{3 if near else 2}f}"


def _signed(metric: str, amount: float) -> str:
    return (
        f"{100 * amount:+.1f} points" if metric in METRICS and METRICS[metric].format == "percent" else f"{amount:+.2g}"
    )
