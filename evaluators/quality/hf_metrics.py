"""The quality metrics as ``evaluate.Metric`` subclasses, for use with Hugging Face's ``evaluate``; offline.

One example is one window of text, so that intervals respect that tokens of one window err together. Every
metric answers with the value under its own name and the ends of the 95 % interval as ``low`` and ``high``;
the numbers come from :mod:`olivine.evaluators.quality.formulas`, as those of the evaluator do. Importing
``evaluate`` takes seconds: import this module only where it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

from olivine.evaluators.process.servers.scoring import bucketed_kl
from olivine.evaluators.quality import formulas as formulas
from olivine.evaluators.stats import Floats, Interval

_LOGPROBS = datasets.Sequence(datasets.Value("float64"))


class OfflineMetric(evaluate.Metric):  # type: ignore[misc] # evaluate has no types
    """A metric that is computed from its arguments alone: no download, no files."""

    word: str
    doc: str
    inputs: str
    features: datasets.Features

    def __init__(self, **options: Any) -> None:
        super().__init__(**({"keep_in_memory": True} | options))

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.doc,
            citation="olivine: search-driven optimizer for ONNX language models",
            inputs_description=self.inputs,
            features=self.features,
        )


class _WindowMetric(OfflineMetric):
    """A metric with one example a window."""

    def _answer(self, interval: Interval) -> dict[str, float]:
        return {self.word: interval.value, "low": interval.low, "high": interval.high}


class Perplexity(_WindowMetric):
    """exp of the mean negative log-likelihood over all tokens."""

    word = "perplexity"
    doc = "Perplexity over windows of text."
    inputs = "predictions: for each window, the log-probabilities (nats) that the model gave the tokens that came."
    features = datasets.Features({"predictions": _LOGPROBS})

    def _compute(self, predictions: Sequence[Sequence[float]]) -> dict[str, float]:
        nll, tokens = _sums(predictions)
        return self._answer(formulas.perplexity(-nll, tokens))


class PerplexityRatio(_WindowMetric):
    """Perplexity over that of a base model on the same tokens."""

    word = "perplexity_ratio"
    doc = "Ratio of a model's perplexity to its base's, paired by window."
    inputs = (
        "predictions: for each window, the model's log-probabilities (nats) of the tokens that came; "
        "references: the base model's, of the same tokens."
    )
    features = datasets.Features({"predictions": _LOGPROBS, "references": _LOGPROBS})

    def _compute(
        self, predictions: Sequence[Sequence[float]], references: Sequence[Sequence[float]]
    ) -> dict[str, float]:
        (ours, tokens), (base, base_tokens) = _sums(predictions), _sums(references)
        if not np.array_equal(tokens, base_tokens):
            raise ValueError("predictions and references must score the same tokens: their windows differ in length")
        return self._answer(formulas.perplexity_ratio(-ours, -base, tokens))


class KLDivergence(_WindowMetric):
    """Mean KL(base || model) per token, in nats."""

    word = "kl_divergence"
    doc = "Kullback-Leibler divergence of next-token distributions from a base model, in nats per token."
    inputs = (
        "predictions: for each window and position, the model's log-probabilities (nats) of some tokens; "
        "references: the base model's, of the same tokens. What is missing to 1 is taken as one more outcome."
    )
    features = datasets.Features(
        {"predictions": datasets.Sequence(_LOGPROBS), "references": datasets.Sequence(_LOGPROBS)}
    )

    def _compute(
        self,
        predictions: Sequence[Sequence[Sequence[float]]],
        references: Sequence[Sequence[Sequence[float]]],
    ) -> dict[str, float]:
        sums = []
        for window, base_window in zip(predictions, references, strict=True):
            ours, base = np.array(window), np.array(base_window)
            sums.append(bucketed_kl(base, _missing(base), ours, _missing(ours)).sum())
        tokens = np.array([len(window) for window in references], dtype=np.float64)
        return self._answer(formulas.kl_divergence(np.array(sums), tokens))


def _missing(logp: np.ndarray) -> np.ndarray:
    """[positions] what the probabilities of [positions, k] log-probabilities leave of 1."""
    rest: np.ndarray = np.maximum(1.0 - np.exp(logp.astype(np.float64)).sum(axis=1), 0.0)
    return rest


class TopOneAgreement(_WindowMetric):
    """Share of positions where the model's likeliest token is the base's."""

    word = "top1_agreement"
    doc = "Share of positions where a model and its base find the same token likeliest."
    inputs = "predictions: for each window, the model's likeliest token at every position; references: the base's."
    features = datasets.Features(
        {
            "predictions": datasets.Sequence(datasets.Value("int64")),
            "references": datasets.Sequence(datasets.Value("int64")),
        }
    )

    def _compute(self, predictions: Sequence[Sequence[int]], references: Sequence[Sequence[int]]) -> dict[str, float]:
        pairs = zip(predictions, references, strict=True)
        agree = np.array([np.equal(ours, base).sum() for ours, base in pairs], dtype=np.float64)
        tokens = np.array([len(window) for window in references], dtype=np.float64)
        return self._answer(formulas.top1_agreement(agree, tokens))


def _sums(windows: Sequence[Sequence[float]]) -> tuple[Floats, Floats]:
    """Per window: the sum, and the number of tokens."""
    return (
        np.array([float(np.sum(window)) for window in windows]),
        np.array([len(window) for window in windows], dtype=np.float64),
    )
