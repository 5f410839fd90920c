"""Fidelity: the distance of a graph's outputs from those of the base, on the same samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.metric import METRICS
from olivine.evaluators.process.failure import ModelProcessFailed
from olivine.evaluators.process.protocols import OutputProcess
from olivine.evaluators.stats import Interval, student
from olivine.passes.store.digests import digest


@dataclass(frozen=True)
class Fidelity:
    """Cosine distance of an output to the base's, and for logits divergence and agreement.

    Attributes:
        feeds: .npz with the samples.
        count: of samples.
        store: folder for the base's outputs.
        reference_key: identifies the base.
        output: name of the output; the first one by default.
        logits: whether its last axis holds logits.
        split: of the samples, for the protocol.
        origin: source of the samples, for the protocol.
    """

    feeds: Path
    count: int
    store: Path
    reference_key: str
    output: str | None = None
    logits: bool = False
    split: str = "select"
    origin: str = ""

    name: ClassVar[str] = "fidelity"
    metrics: ClassVar[tuple[str, ...]] = ("cosine_distance", "kl_divergence", "top1_agreement")

    def evaluate(self, candidate: OutputProcess, reference: OutputProcess) -> list[Measurement]:
        """Run all samples; the base's outputs are stored once.

        Raises:
            ModelProcessFailed: when an output is not finite, or of another shape than the base's.
        """
        key = digest([self.reference_key, self.feeds.name, self.count, self.output], length=12)
        stored = self.store / f"outputs-{key}.npz"
        if not stored.is_file():
            self.store.mkdir(parents=True, exist_ok=True)
            reference.outputs(self.feeds, self.count, stored, self.output)
        scores = [
            candidate.compare(self.feeds, number, stored, self.output, self.logits) for number in range(self.count)
        ]
        if not all(score.finite for score in scores):
            raise ModelProcessFailed("error", "The candidate gives outputs that are not finite")
        protocol = {
            "samples": self.count,
            "split": self.split,
            "origin": self.origin,
            "output": self.output or "the first",
            "each": "one vector an item of the batch",
        }
        measurements = [_mean("cosine_distance", [max(0.0, 1 - score.cosine) for score in scores], protocol)]
        if self.logits:
            measurements.append(_mean("kl_divergence", [score.kl for score in scores], protocol))
            measurements.append(_mean("top1_agreement", [score.agree for score in scores], protocol))
        return measurements


def _mean(metric: str, samples: list[float], protocol: dict[str, object]) -> Measurement:
    """Mean over independent samples with Student's interval, within the metric's range."""
    interval, bounds = student(np.array(samples)), METRICS[metric]
    known = interval if np.isfinite(interval.half_width) else Interval(*3 * [interval.value])
    return Measurement.of(metric, known.clip(bounds.low, bounds.high), samples, protocol, digits=9)
