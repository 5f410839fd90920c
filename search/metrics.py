"""Every metric that a study knows: its unit, its direction, and the constraints written over it."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from typing import Literal

from olivine.passes.errors import UsageError, did_you_mean

Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Metric:
    """Unit and direction of one metric."""

    unit: str
    direction: Direction
    doc: str


METRICS: dict[str, Metric] = {
    "ttft_ms": Metric("ms", "minimize", "time to first token: prefill of the prompt"),
    "tpot_ms": Metric("ms", "minimize", "time per output token: decode"),
    "e2e_ms": Metric("ms", "minimize", "prompt in, last token out"),
    "prefill_tok_s": Metric("tok/s", "maximize", "prompt tokens a second"),
    "decode_tok_s": Metric("tok/s", "maximize", "output tokens a second"),
    "ttft_speedup": Metric("ratio", "maximize", "ttft_ms of the base / of the candidate"),
    "tpot_speedup": Metric("ratio", "maximize", "tpot_ms of the base / of the candidate"),
    "e2e_speedup": Metric("ratio", "maximize", "e2e_ms of the base / of the candidate"),
    "perplexity": Metric("1", "minimize", "exp of the mean negative log-likelihood per token"),
    "perplexity_ratio": Metric("ratio", "minimize", "perplexity of the candidate / of the base, same tokens"),
    "kl_divergence": Metric("nats", "minimize", "KL of the base's next-token distribution to the candidate's"),
    "top1_agreement": Metric("ratio", "maximize", "share of tokens at which both predict the same next token"),
    "bits_per_byte": Metric("1", "minimize", "negative log-likelihood in bits per byte of text"),
    "model_bytes": Metric("bytes", "minimize", "size of the graph and its weights"),
    "peak_rss_bytes": Metric("bytes", "minimize", "peak resident memory of the process that runs the model"),
    "load_ms": Metric("ms", "minimize", "time to load the model"),
}

_CONSTRAINT = re.compile(r"\s*([A-Za-z_0-9]+)\s*(<=|>=)\s*([0-9.]+(?:[eE][-+]?\d+)?)\s*([A-Za-z%]*)\s*")
_SCALE = {
    "": 1.0,
    "%": 0.01,
    "B": 1.0,
    "KB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
    "KiB": 2.0**10,
    "MiB": 2.0**20,
    "GiB": 2.0**30,
    "ms": 1.0,
    "x": 1.0,
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
        compare = operator.le if self.relation == "<=" else operator.ge
        return compare(value, self.bound)

    def __str__(self) -> str:
        return f"{self.metric} {self.relation} {self.bound:.10g}"


def parse_constraint(text: str) -> Constraint:
    """Read a constraint such as ``perplexity_ratio <= 1.05`` or ``model_bytes <= 250MB``.

    Raises:
        UsageError: when the text has another form, or names an unknown metric or unit.
    """
    found = _CONSTRAINT.fullmatch(text)
    if found is None:
        raise UsageError(f"'{text}' is no constraint; write it as 'perplexity_ratio <= 1.05' or 'model_bytes <= 250MB'")
    metric, relation, number, unit = found.groups()
    if metric not in METRICS:
        raise UsageError(f"Unknown metric '{metric}'. {did_you_mean(metric, METRICS)}")
    if unit not in _SCALE:
        raise UsageError(f"Unknown unit '{unit}'. {did_you_mean(unit, [u for u in _SCALE if u])}")
    return Constraint(metric, "<=" if relation == "<=" else ">=", float(number) * _SCALE[unit])
