"""Evaluators, and the one type in which their numbers travel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from olivine.evaluators.metric import METRICS
from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.stats import Interval


@dataclass(frozen=True)
class Measurement:
    """One number with its interval, samples and protocol.

    Attributes:
        metric: standard name, with its unit when it has one (``tpot_ms``, ``perplexity_ratio``).
        unit: ``ms``, ``tok/s``, ``bytes``, ``nats``, ``ratio`` or ``1``.
        value: the estimate.
        low: lower end of the 95 % interval; equals ``value`` for exact counts.
        high: upper end of the 95 % interval.
        samples: the raw samples the value was computed from, in the order taken.
        protocol: description of the measurement, from which another lab can repeat it.
    """

    metric: str
    unit: str
    value: float
    low: float
    high: float
    samples: tuple[float, ...] = ()
    protocol: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, metric: str, interval: Interval, samples: Iterable[float], protocol: Mapping[str, Any], digits: int = 6
    ) -> Measurement:
        """An estimate of one of ``METRICS``, in its unit; samples are rounded to so many digits after the point."""
        rounded = tuple(round(float(sample), digits) for sample in samples)
        ends = interval.value, interval.low, interval.high
        return cls(metric, METRICS[metric].unit, *ends, rounded, protocol)

    @classmethod
    def exact(cls, metric: str, unit: str, value: float, **protocol: Any) -> Measurement:
        """A count that has no sampling error."""
        return cls(metric, unit, value, value, value, (), protocol)

    def to_dict(self) -> dict[str, Any]:
        """JSON form, the same in records, manifests and ``--json`` files."""
        return asdict(self)


class Evaluator(Protocol):
    """Turns a candidate, beside the resident base, into measurements."""

    name: str
    #: The metrics this evaluator answers for, so that a config can be checked before any work.
    metrics: Sequence[str]

    def evaluate(self, candidate: ModelProcess, reference: ModelProcess) -> list[Measurement]:
        """Measure ``candidate`` against ``reference``; both are loaded models in processes of their own.

        Raises:
            ModelProcessFailed: when a process died, hung or gave an answer that can't be read.
        """
