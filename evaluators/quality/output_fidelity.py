"""Fidelity: the distance of a graph's outputs from those of the base, on the same samples."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.metric import METRICS
from olivine.evaluators.process.failure import ModelProcessFailed
from olivine.evaluators.process.protocols import OutputProcess
from olivine.evaluators.stats import Floats, Interval, jackknife, student
from olivine.passes.store.digests import digest


@dataclass(frozen=True)
class Fidelity:
    """Cosine distance of an output to the base's, and for logits divergence and agreement.

    Of an output with one value an item, which has no direction, 1 - Lin's concordance of the values over all samples.

    Attributes:
        feeds: .npz with the samples.
        count: of samples.
        store: folder for the base's outputs.
        reference_key: identifies the base.
        output: name of the output; the first one by default.
        logits: whether its last axis holds logits.
        split: of the samples, for the protocol.
        origin: source of the samples, for the protocol.
        apart: each logit is of a label of its own, which holds or does not.
    """

    feeds: Path
    count: int
    store: Path
    reference_key: str
    output: str | None = None
    logits: bool = False
    split: str = "select"
    origin: str = ""
    apart: bool = False

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
            candidate.compare(self.feeds, number, stored, self.output, self.logits, self.apart)
            for number in range(self.count)
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
        base = _arrays(stored, self.count)
        if all(array.size == len(array) for array in base):
            measurements = [self._of_values(candidate, base, protocol)]
        else:
            measurements = [_mean("cosine_distance", [max(0.0, 1 - score.cosine) for score in scores], protocol)]
        if self.logits:
            measurements.append(_mean("kl_divergence", [score.kl for score in scores], protocol))
            measurements.append(_mean("top1_agreement", [score.agree for score in scores], protocol))
        return measurements

    def _of_values(
        self, candidate: OutputProcess, base: Sequence[np.ndarray], protocol: dict[str, object]
    ) -> Measurement:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "outputs.npz"
            candidate.outputs(self.feeds, self.count, path, self.output)
            own = _arrays(path, self.count)

        def distance(chosen: Sequence[int]) -> float:
            one, other = (np.concatenate([arrays[n].ravel() for n in chosen]) for arrays in (base, own))
            return 1 - concordance(one.astype(np.float64), other.astype(np.float64))

        each = [float(np.abs(a - b).mean()) for a, b in zip(base, own, strict=True)]
        about = {**protocol, "each": "1 - Lin's concordance of the values over all samples", "of": "absolute errors"}
        return _bounded("cosine_distance", jackknife(range(self.count), distance), each, about)


def concordance(a: Floats, b: Floats) -> float:
    """Lin's concordance correlation coefficient of paired values: 1 where they are equal, 0 where either tells nothing.

    Unlike Pearson's it falls with a shift and a change of scale too.

    Source: Lin (1989), A Concordance Correlation Coefficient to Evaluate Reproducibility, Biometrics 45(1).
    """
    if np.array_equal(a, b):
        return 1.0
    spread = float(a.var() + b.var() + (a.mean() - b.mean()) ** 2)
    return float(2 * ((a - a.mean()) * (b - b.mean())).mean() / spread)


def _arrays(path: Path, count: int) -> list[np.ndarray]:
    with np.load(path) as stored:
        return [stored[str(number)] for number in range(count)]


def _mean(metric: str, samples: list[float], protocol: dict[str, object]) -> Measurement:
    """Mean over independent samples with Student's interval, within the metric's range."""
    return _bounded(metric, student(np.array(samples)), samples, protocol)


def _bounded(metric: str, interval: Interval, samples: list[float], protocol: dict[str, object]) -> Measurement:
    bounds = METRICS[metric]
    known = interval if np.isfinite(interval.half_width) else Interval(*3 * [interval.value])
    return Measurement.of(metric, known.clip(bounds.low, bounds.high), samples, protocol, digits=9)
