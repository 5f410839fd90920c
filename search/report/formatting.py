"""How numbers, recipes and durations read in terminal, report and dashboard."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from olivine.search.config.metrics import METRICS
from olivine.search.records import TrialRecord

#: What a person calls a metric, where its name is not shown.
TITLES = {
    "ttft_ms": "time to first token",
    "tpot_ms": "time per token",
    "e2e_ms": "end to end",
    "prefill_tok_s": "prefill rate",
    "decode_tok_s": "decode rate",
    "ttft_speedup": "prefill speedup",
    "tpot_speedup": "decode speedup",
    "e2e_speedup": "end-to-end speedup",
    "perplexity": "perplexity",
    "perplexity_ratio": "perplexity ratio",
    "kl_divergence": "KL divergence",
    "top1_agreement": "top-1 agreement",
    "bits_per_byte": "bits per byte",
    "model_bytes": "model size",
    "peak_rss_bytes": "peak memory",
    "load_ms": "load time",
    "latency_ms": "latency",
    "latency_speedup": "speedup",
    "cosine_distance": "cosine distance",
    "task_score": "task score",
    "task_drop": "task drop",
}

#: Column headings, where a title is too wide.
HEADINGS = {
    "tpot_speedup": "decode",
    "ttft_speedup": "prefill",
    "e2e_speedup": "end to end",
    "perplexity_ratio": "ppl ratio",
    "kl_divergence": "KL",
    "top1_agreement": "top-1",
    "model_bytes": "size",
    "peak_rss_bytes": "memory",
    "cosine_distance": "1 - cosine",
}

_BYTES = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def title(metric: str) -> str:
    """The words for a metric; its name where there are none."""
    return TITLES.get(metric, metric)


def heading(metric: str) -> str:
    """The shortest words for a metric: a column's heading."""
    return HEADINGS.get(metric, title(metric))


def value_text(metric: str, value: float) -> str:
    """A value in its metric's unit, as short as it may be: ``2.41x``, ``203 MB``, ``12.4 ms``, ``1.052``."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "-"
    if metric.endswith("_speedup"):
        return f"{value:.2f}x"
    if metric == "top1_agreement":
        return f"{100 * value:.1f} %"
    unit = METRICS[metric].unit if metric in METRICS else ""
    if unit == "bytes":
        name, scale = next((pair for pair in _BYTES if abs(value) >= pair[1]), ("B", 1.0))
        return f"{value / scale:.3g} {name}" if abs(value) < 1000 * scale else f"{value / scale:.0f} {name}"
    if unit == "ms":
        return f"{value:.0f} ms" if abs(value) >= 100 else f"{value:.3g} ms"
    if unit == "tok/s":
        return f"{value:.0f} tok/s" if abs(value) >= 100 else f"{value:.3g} tok/s"
    return f"{value:.3f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"


def measured_text(metric: str, entry: Mapping[str, Any] | None) -> str:
    """A measurement with its uncertainty: ``2.41x ±0.05``; empty where it was not measured."""
    if entry is None:
        return ""
    value, low, high = (float(entry[key]) for key in ("value", "low", "high"))
    half = max(high - value, value - low)
    text = value_text(metric, value)
    if half == 0:
        return text
    if not math.isfinite(half):
        return f"{text} ±?"
    if metric.endswith("_speedup"):
        return f"{text} ±{half:.2f}"
    if metric == "top1_agreement":
        return f"{text.removesuffix(' %')} ±{100 * half:.1f} %"
    number, _, unit = text.partition(" ")
    scale = value / float(number) if float(number) else 1.0
    return f"{number} ±{half / scale:.{_decimals(number)}f} {unit}".rstrip()


def interval_text(metric: str, entry: Mapping[str, Any]) -> str:
    """A measurement with the ends of its interval: ``2.41x (2.36 to 2.46)``."""
    text = value_text(metric, float(entry["value"]))
    low, high = float(entry["low"]), float(entry["high"])
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
