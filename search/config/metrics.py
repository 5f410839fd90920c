"""Every metric that a study knows: its unit, its direction, and the constraints written over it."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from olivine.passes.errors import UsageError, did_you_mean
from olivine.search.config.quantities import unit_bytes

Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        unit: of its values.
        direction: what is better.
        doc: one line for the JSON schema and the report.
        low: the least value that it can take.
        high: the greatest value that it can take.
    """

    unit: str
    direction: Direction
    doc: str
    low: float = 0.0
    high: float = math.inf


METRICS: dict[str, Metric] = {
    "ttft_ms": Metric("ms", "minimize", "time to first token: prefill of the prompt"),
    "tpot_ms": Metric("ms", "minimize", "time per output token: decode"),
    "e2e_ms": Metric("ms", "minimize", "prompt in, last token out"),
    "prefill_tok_s": Metric("tok/s", "maximize", "prompt tokens a second"),
    "decode_tok_s": Metric("tok/s", "maximize", "output tokens a second"),
    "ttft_speedup": Metric("ratio", "maximize", "ttft_ms of the base / of the candidate"),
    "tpot_speedup": Metric("ratio", "maximize", "tpot_ms of the base / of the candidate"),
    "e2e_speedup": Metric("ratio", "maximize", "e2e_ms of the base / of the candidate"),
    "perplexity": Metric("1", "minimize", "exp of the mean negative log-likelihood per token", low=1.0),
    "perplexity_ratio": Metric("ratio", "minimize", "perplexity of the candidate / of the base, same tokens"),
    "kl_divergence": Metric("nats", "minimize", "KL of the base's next-token distribution to the candidate's"),
    "top1_agreement": Metric(
        "ratio", "maximize", "share of tokens at which both predict the same next token", high=1.0
    ),
    "bits_per_byte": Metric("bits/byte", "minimize", "negative log-likelihood in bits per byte of text"),
    "model_bytes": Metric("bytes", "minimize", "size of the graph and its weights"),
    "peak_rss_bytes": Metric("bytes", "minimize", "peak resident memory of the process that runs the model"),
    "gpu_memory_bytes": Metric(
        "bytes", "minimize", "what the GPU holds for the loaded model and its cache; measured on CUDA only"
    ),
    "latency_ms": Metric("ms", "minimize", "time of a run of a plain graph, geometric mean over the named shapes"),
    "latency_speedup": Metric("ratio", "maximize", "latency_ms of the base / of the candidate"),
    "cosine_distance": Metric("1", "minimize", "1 - cosine of a plain graph's output and the base's", high=2.0),
    "task_score": Metric(
        "ratio",
        "maximize",
        "metric of evaluation.task over labelled rows, of a plain graph",
        low=-1.0,
        high=1.0,
    ),
    "task_drop": Metric(
        "ratio", "minimize", "task_score of the base - of the candidate, same rows", low=-2.0, high=2.0
    ),
    "load_ms": Metric("ms", "minimize", "time to load the model"),
}

#: What is measured on a user's own labelled rows, where a study names some.
TASK_METRICS = ("task_score", "task_drop")
#: What is measured of a plain graph: one that is no decoder.
PLAIN_METRICS = (
    "latency_ms",
    "latency_speedup",
    "cosine_distance",
    "kl_divergence",
    "top1_agreement",
    *TASK_METRICS,
    "model_bytes",
    "peak_rss_bytes",
    "load_ms",
)
#: What is measured of plain graphs alone; and what of language models.
PLAIN_ONLY = frozenset({"latency_ms", "latency_speedup", "cosine_distance", *TASK_METRICS})
LANGUAGE_METRICS = tuple(name for name in METRICS if name not in PLAIN_ONLY)

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_CONSTRAINT = re.compile(rf"\s*(\w+)\s*([<>=!≤≥]+)\s*({_NUMBER})\s*([A-Za-z%]*)\s*")
_EXAMPLE = "write it as 'perplexity_ratio <= 1.05' or 'model_bytes <= 250MB'"
#: Unit of a metric -> the units that a constraint may be written in, and their size.
_UNITS: dict[str, dict[str, float]] = {
    "ms": {"ms": 1.0, "s": 1e3},
    "ratio": {"%": 0.01, "x": 1.0},
    "bytes": {u: float(unit_bytes(u)) for u in ("B", "KB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB")},
}


@dataclass(frozen=True)
class Constraint:
    """``metric <= bound`` or ``metric >= bound``, in the metric's own unit."""

    metric: str
    relation: Literal["<=", ">="]
    bound: float

    def violation(self, value: float) -> float:
        """How far ``value`` breaks the constraint, relative to the bound; 0 or less where it holds."""
        excess = value - self.bound if self.relation == "<=" else self.bound - value
        return excess / (abs(self.bound) or 1.0)

    def holds(self, value: float) -> bool:
        """Whether ``value`` keeps the constraint."""
        return value <= self.bound if self.relation == "<=" else value >= self.bound

    def __str__(self) -> str:
        return f"{self.metric} {self.relation} {self.bound:.10g}"


def parse_constraint(text: str, known: Collection[str] = tuple(METRICS)) -> Constraint:
    """Read a constraint such as ``perplexity_ratio <= 1.05`` or ``model_bytes <= 250MB``.

    Args:
        text: the constraint.
        known: names of the metrics that it may be about.

    Raises:
        UsageError: when the text has another form, names an unknown metric or unit, or can never hold.
    """
    found = _CONSTRAINT.fullmatch(text)
    if found is None:
        raise UsageError(f"'{text}' is no constraint; {_EXAMPLE}")
    name, relation, number, unit = found.groups()
    if name not in known:
        raise UsageError(f"unknown metric '{name}' in '{text}'. {did_you_mean(name, known)}")
    metric = METRICS[name]
    if relation not in ("<=", ">="):
        hint = ">=" if ">" in relation or "≥" in relation else "<="
        raise UsageError(f"'{relation}' in '{text}' is no relation. Did you mean '{hint}'? Available: <=, >=.")
    bound = float(number) * _unit_size(metric, unit, text)
    if (relation == "<=" and bound < metric.low) or (relation == ">=" and bound > metric.high):
        limit = f"at least {metric.low:g}" if relation == "<=" else f"at most {metric.high:g}"
        raise UsageError(f"'{text}' can never hold: {name} is {limit}")
    return Constraint(name, "<=" if relation == "<=" else ">=", bound)


def _unit_size(metric: Metric, unit: str, text: str) -> float:
    known = _UNITS.get(metric.unit, {})
    sizes = {name.lower(): size for name, size in known.items()}
    if not unit:
        return 1.0
    if unit.lower() not in sizes:
        fits = did_you_mean(unit, known) if known else "Available: the number alone."
        raise UsageError(f"unknown unit '{unit}' in '{text}'. {fits}")
    return sizes[unit.lower()]


def contradictions(constraints: Sequence[Constraint]) -> list[str]:
    """Pairs of constraints that can't hold together, in words."""
    return [
        f"'{least}' and '{most}' can't hold together"
        for least in constraints
        for most in constraints
        if least.metric == most.metric and (least.relation, most.relation) == (">=", "<=") and least.bound > most.bound
    ]


def directed(metric: str, value: float) -> float:
    """``value`` as a number to be minimized."""
    return value if METRICS[metric].direction == "minimize" else -value
