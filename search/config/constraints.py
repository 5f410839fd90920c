"""Constraints over metrics, such as ``model_bytes <= 250MB``: read, checked against a value, printed."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from olivine.evaluators.metric import METRICS, Metric
from olivine.passes.errors import UsageError, did_you_mean
from olivine.search.config.quantities import unit_bytes

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
        """The distance by which ``value`` breaks the constraint, relative to the bound; 0 or less where it holds."""
        excess = value - self.bound if self.relation == "<=" else self.bound - value
        return excess / (abs(self.bound) or 1.0)

    def holds(self, value: float) -> bool:
        """True when ``value`` keeps the constraint."""
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
    match = _CONSTRAINT.fullmatch(text)
    if match is None:
        pointed = text.replace(",", ".")
        hint = f"did you mean '{pointed}'?" if _CONSTRAINT.fullmatch(pointed) else _EXAMPLE
        raise UsageError(f"'{text}' is no constraint; {hint}")
    name, relation, number, unit = match.groups()
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
