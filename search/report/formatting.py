"""Words for numbers, recipes and durations, the same in terminal, report and dashboard."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.metric import HEADLINES, METRICS, SPEEDUPS, Metric, ModelKind, metrics_of, split_text
from olivine.search.records import TrialRecord

#: State of a trial -> colour in the terminal.
STATE_STYLE = {"complete": "green", "infeasible": "yellow", "failed": "red"}

_BYTES = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def _row(metric: str) -> Metric | None:
    """The row of a metric, on whichever text it was measured; None for what is none, such as the score of a task."""
    return METRICS.get(split_text(metric)[0])


def title(metric: str) -> str:
    """The words for a metric, with the kind of text that it is of; its name where there are none."""
    row, (_, text) = _row(metric), split_text(metric)
    return metric if row is None else f"{row.title} on {text}" if text else row.title


def heading(metric: str) -> str:
    """The shortest words for a metric: a column's heading."""
    row, (_, text) = _row(metric), split_text(metric)
    return metric if row is None else f"{row.heading} on {text}" if text else row.heading


def headline_metrics(objectives: Sequence[str]) -> list[str]:
    """Metrics that a line or a narrow table has room for: the objectives, then the headlines of that kind of model.

    A time is shown as its speedup, the form that people compare.
    """
    shown = [SPEEDUPS.get(objective, objective) for objective in objectives]
    kind: ModelKind = "language" if all("language" in METRICS[name].kinds for name in objectives) else "graph"
    usual = [name for name in metrics_of(kind) if name in HEADLINES and METRICS[name].family in ("latency", "quality")]
    return list(dict.fromkeys([*shown, *usual]))


def outcome_text(record: TrialRecord, objectives: Sequence[str]) -> str:
    """The speedups and quality of a trial, or the reason why there are none."""
    if record.state != "complete":
        return record.reason or record.state
    return ", ".join(
        f"{title(metric)} {measured_text(record.metrics[metric])}"
        for metric in headline_metrics(objectives)
        if metric in record.metrics
    )


def shown_metrics(records: Sequence[TrialRecord], objectives: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Columns of a table of trials: the headlines, and those of ``columns`` that any record has."""
    measured = {name for record in records for name in record.metrics}
    return list(dict.fromkeys([*headline_metrics(objectives), *(name for name in columns if name in measured)]))


def _format(metric: str) -> str:
    return row.format if (row := _row(metric)) is not None else "unit"


def value_text(metric: str, value: float) -> str:
    """A value in its metric's unit, as short as it may be: ``2.41x``, ``203 MB``, ``12.4 ms``, ``1.052``."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "-"
    if _format(metric) == "factor":
        return f"{value:.2f}x"
    if _format(metric) == "percent":
        return f"{100 * value:.1f} %"
    unit = row.unit if (row := _row(metric)) is not None else ""
    if unit == "bytes":
        name, scale = next((pair for pair in _BYTES if abs(value) >= pair[1]), ("B", 1.0))
        return f"{value / scale:.3g} {name}" if abs(value) < 1000 * scale else f"{value / scale:.0f} {name}"
    if unit == "ms":
        return f"{value:.0f} ms" if abs(value) >= 100 else f"{value:.3g} ms"
    if unit == "tok/s":
        return f"{value:.0f} tok/s" if abs(value) >= 100 else f"{value:.3g} tok/s"
    return f"{value:.3f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"


def measured_text(measurement: Measurement | None) -> str:
    """A measurement with its uncertainty: ``2.41x ±0.05``; empty where it was not measured."""
    if measurement is None:
        return ""
    metric, value = measurement.metric, measurement.value
    half = max(measurement.high - value, value - measurement.low)
    text = value_text(metric, value)
    if half == 0:
        return text
    if not math.isfinite(half):
        return f"{text} ±?"
    if _format(metric) == "factor":
        return f"{text} ±{half:.2f}"
    if _format(metric) == "percent":
        return f"{text.removesuffix(' %')} ±{100 * half:.1f} %"
    number, _, unit = text.partition(" ")
    scale = value / float(number) if float(number) else 1.0
    return f"{number} ±{half / scale:.{_decimals(number)}f} {unit}".rstrip()


def interval_text(measurement: Measurement) -> str:
    """A measurement with the ends of its interval: ``2.41x (2.36 to 2.46)``."""
    metric, low, high = measurement.metric, measurement.low, measurement.high
    text = value_text(metric, measurement.value)
    if low == high:
        return text
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{text} (interval unknown)"
    return f"{text} ({_bare(value_text(metric, low))} to {_bare(value_text(metric, high))})"


def _bare(text: str) -> str:
    return text.split(" ", maxsplit=1)[0].removesuffix("x")


def _decimals(number: str) -> int:
    return len(number.partition(".")[2]) if "." in number else 0


def duration_text(seconds: float) -> str:
    """``0.4 s``, ``42 s``, ``3 min 05 s``, ``2 h 07 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def scalar_text(value: Any) -> str:
    """A parameter's value as the YAML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def varying(records: Sequence[TrialRecord]) -> list[str]:
    """The axes whose value, or absence, differs between records, in the order they first appear."""
    axes = list(dict.fromkeys(axis for record in records for axis in record.params))
    return [axis for axis in axes if len({scalar_text(record.params.get(axis)) for record in records}) > 1]


def params_text(params: Mapping[str, Any], axes: Sequence[str] | None = None) -> str:
    """``precision int4, block_size 32``: all parameters, or those of ``axes`` that exist here."""
    names = [axis for axis in (params if axes is None else axes) if axis in params]
    return ", ".join(f"{name} {scalar_text(params[name])}" for name in names)


def guesses_text(guesses: Mapping[str, Any]) -> str:
    """Tokens a step and the gain of guesses, from the protocol of a time that holds them."""
    least, most = min(guesses["gain_by_prompt"]), max(guesses["gain_by_prompt"])
    return (
        f"On answers to {guesses['prompts']} prompts they give {guesses['tokens_per_step']:.2f} tokens a step and "
        f"{guesses['gain']:.2f}x in decode ({guesses['gain_low']:.2f} to {guesses['gain_high']:.2f}; by prompt "
        f"{least:.2f}x to {most:.2f}x)"
    )
