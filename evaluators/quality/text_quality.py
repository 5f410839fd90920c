"""Quality of text: the loss of a candidate against the base in predicting the same text.

The base runs every window once; its likeliest tokens per position are stored. A candidate is then scored
window by window, in an order that is random and fixed, so that it can be stopped early.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from olivine.evaluators.data.windows import Window
from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.messages import WindowScore
from olivine.evaluators.process.protocols import ScoringProcess
from olivine.evaluators.quality import formulas as formulas
from olivine.evaluators.stats import Floats, Interval, anytime_mean
from olivine.passes.errors import OlivineError
from olivine.passes.store.digests import digest

#: A stop rule is not asked before this many windows.
MIN_WINDOWS = 3
#: Of the file that :meth:`ModelProcess.reference` writes; 2 has the size of the vocabulary.
FORMAT = 2
#: In the protocol of a perplexity that was scored on a few windows of the text.
WHOLE_TEXT = "perplexity of the base on all windows x perplexity_ratio on those scored"


class QualityGateFailed(OlivineError):
    """A candidate that can't be scored; ``reason`` is what the trial record keeps."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class WindowSums:
    """Sums over the windows scored so far, one entry per window.

    Attributes:
        nll: nats, of the candidate.
        base_nll: nats, of the base.
        kl: nats, KL(base || candidate).
        agree: positions with the same likeliest token.
        tokens: scored positions.
        text_bytes: UTF-8 bytes of the scored text.
        base_perplexity: the base's on all windows, also those the candidate has not seen.
    """

    nll: Floats
    base_nll: Floats
    kl: Floats
    agree: Floats
    tokens: Floats
    text_bytes: Floats
    base_perplexity: float

    def intervals(self) -> dict[str, Interval]:
        """Every metric with its 95 % interval."""
        return {
            "perplexity": formulas.perplexity(self.nll, self.tokens),
            "perplexity_ratio": formulas.perplexity_ratio(self.nll, self.base_nll, self.tokens),
            "kl_divergence": formulas.kl_divergence(self.kl, self.tokens),
            "top1_agreement": formulas.top1_agreement(self.agree, self.tokens),
            "bits_per_byte": formulas.bits_per_byte(self.nll, self.text_bytes),
        }

    def bounds(self) -> dict[str, Interval]:
        """Intervals that may be looked at after every window and still hold: for stopping early."""
        ratio = anytime_mean((self.nll - self.base_nll) / self.tokens).exp()
        return {
            "perplexity": self.whole_text_perplexity(ratio),
            "perplexity_ratio": ratio,
            "kl_divergence": anytime_mean(self.kl / self.tokens).clip(0.0, np.inf),
            "top1_agreement": anytime_mean(self.agree / self.tokens).clip(0.0, 1.0),
        }

    def whole_text_perplexity(self, ratio: Interval) -> Interval:
        """The base's perplexity on all windows times a ratio to it.

        After a few windows it is much steadier than the candidate's own, which depends on how hard those windows are.
        """
        return Interval(*(self.base_perplexity * end for end in (ratio.value, ratio.low, ratio.high)))


@dataclass(frozen=True)
class QualityResult:
    """Measurements, and why they rest on fewer windows than asked for (None: all were scored).

    Perplexity is then what it should be on all windows (:meth:`WindowSums.whole_text_perplexity`).
    """

    measurements: list[Measurement]
    stopped: str | None


@dataclass(frozen=True)
class TextQuality:
    """Perplexity and distance to the base on a fixed set of windows.

    Attributes:
        windows: in the order in which they are scored; see :func:`olivine.evaluators.data.windows.draw`.
        store: folder where the base's predictions are kept, one file per base and set of windows.
        reference_key: what the base is (an artifact key): part of the stored file's name.
        top_k: tokens of the base's distribution kept per position; the others are one bucket.
        stop: asked after every window from the third on; a reason in words ends the evaluation.
        protocol: text, split and :class:`TextProtocol`, stamped into every measurement.
    """

    windows: tuple[Window, ...]
    store: Path
    reference_key: str
    top_k: int = 512
    stop: Callable[[WindowSums], str | None] | None = None
    protocol: Mapping[str, Any] = field(default_factory=dict)

    name: ClassVar[str] = "quality"
    metrics: ClassVar[tuple[str, ...]] = (
        "perplexity",
        "perplexity_ratio",
        "kl_divergence",
        "top1_agreement",
        "bits_per_byte",
    )

    def evaluate(self, candidate: ScoringProcess, reference: ScoringProcess | None) -> list[Measurement]:
        """The measurements of :meth:`run`."""
        return self.run(candidate, reference).measurements

    def evaluate_base(self) -> list[Measurement]:
        """The base's own measurements, from the stored file."""
        return self._measurements(self._sums(self._of_base(), self.base_nll()), None)

    def run(self, candidate: ScoringProcess, reference: ScoringProcess | None) -> QualityResult:
        """Score the candidate until the windows end or ``stop`` gives a reason.

        ``candidate is reference`` is allowed and costs nothing once the base's predictions are stored. Where they are
        stored already, ``reference`` may be None.

        Raises:
            ValueError: when they are not, and there is no reference to predict them.
            QualityGateFailed: when the candidate's logits are not finite.
            ModelProcessFailed: when a process died or hung.
        """
        path = self.reference_path()
        if not path.exists():
            if reference is None:
                raise ValueError("the base's predictions are not stored, and no base was given")
            path.parent.mkdir(parents=True, exist_ok=True)
            reference.reference([(w.tokens, w.scored) for w in self.windows], path, self.top_k)
        if candidate is reference:
            return QualityResult(self.evaluate_base(), None)
        base = self.base_nll()
        scores: list[WindowScore] = []
        stopped = None
        for number in range(len(self.windows)):
            scores.append(candidate.score(path, number))
            if not scores[-1].finite:
                raise QualityGateFailed(f"logits are not finite in window {number + 1} of {len(self.windows)}")
            if self.stop is not None and MIN_WINDOWS <= len(scores) < len(self.windows):
                stopped = self.stop(self._sums(scores, base))
                if stopped is not None:
                    break
        return QualityResult(self._measurements(self._sums(scores, base), stopped), stopped)

    def reference_path(self) -> Path:
        """The file that holds the base's predictions for these windows."""
        key = digest([FORMAT, self.reference_key, self.top_k, [[w.tokens, w.scored] for w in self.windows]])
        return self.store / f"reference-{key}.npz"

    def base_nll(self) -> Floats:
        """[windows] the base's negative log-likelihoods in nats, from the stored file."""
        with np.load(self.reference_path()) as stored:
            sums = [stored[f"nll_{n}"].sum(dtype=np.float64) for n in range(len(self.windows))]
        return np.array(sums)

    def _of_base(self) -> list[WindowScore]:
        nlls = zip(self.base_nll(), self.windows, strict=True)
        return [WindowScore(float(nll), window.scored, 0.0, window.scored, True) for nll, window in nlls]

    def _sums(self, scores: list[WindowScore], base_nll: Floats) -> WindowSums:
        done = len(scores)
        tokens = np.array([w.scored for w in self.windows], dtype=np.float64)
        return WindowSums(
            nll=np.array([s.nll for s in scores]),
            base_nll=base_nll[:done],
            kl=np.array([s.kl for s in scores]),
            agree=np.array([s.agree for s in scores], dtype=np.float64),
            tokens=tokens[:done],
            text_bytes=np.array([w.text_bytes for w in self.windows[:done]], dtype=np.float64),
            base_perplexity=formulas.perplexity(base_nll, tokens).value,
        )

    def _measurements(self, sums: WindowSums, stopped: str | None) -> list[Measurement]:
        protocol = {
            **self.protocol,
            "windows": len(sums.nll),
            "windows_asked": len(self.windows),
            "tokens": int(sums.tokens.sum()),
            "interval": "Student over windows (ratio estimator)",
            "stopped": stopped,
        }
        protocols = {"kl_divergence": protocol | {"top_k": self.top_k}}
        intervals = sums.intervals()
        ratios = np.exp((sums.nll - sums.base_nll) / sums.tokens)
        samples = {
            "perplexity": np.exp(sums.nll / sums.tokens),
            "perplexity_ratio": ratios,
            "kl_divergence": sums.kl / sums.tokens,
            "top1_agreement": sums.agree / sums.tokens,
            "bits_per_byte": sums.nll / np.log(2) / sums.text_bytes,
        }
        if stopped is not None:  # the numbers that the stop rule judged by, so that a record agrees with its reason
            intervals["perplexity"] = sums.whole_text_perplexity(intervals["perplexity_ratio"])
            samples["perplexity"] = sums.base_perplexity * ratios
            protocols["perplexity"] = protocol | {"estimate": WHOLE_TEXT}
        return [
            Measurement.of(name, interval, samples[name], protocols.get(name, protocol))
            for name, interval in intervals.items()
        ]
