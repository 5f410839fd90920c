"""The scores of labelled rows as ``evaluate.Metric`` subclasses, offline; and any other metric that ``evaluate`` loads.

The numbers of the built-in ones come from :mod:`olivine.evaluators.quality.label_scores`, as those of the evaluator do.
Importing ``evaluate`` takes seconds: import this module only where it is used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real

import datasets
import evaluate
import numpy as np

from olivine.evaluators.quality.hf_metrics import OfflineMetric
from olivine.evaluators.quality.label_scores import OF_CLASSES, SCORES, Numbers, Score, built_in
from olivine.passes.errors import OlivineError, UsageError, did_you_mean, nearest


class _LabelMetric(OfflineMetric):
    """A metric with one example a row."""

    inputs = "predictions: one for each row; references: the label of each row."

    @property
    def features(self) -> datasets.Features:
        """Classes, or values."""
        value = datasets.Value("int64" if self.word in OF_CLASSES else "float64")
        return datasets.Features({"predictions": value, "references": value})

    def _compute(self, predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
        labels = np.array(references)
        return {self.word: built_in(self.word, labels)[1](np.array(predictions), labels)}


class Accuracy(_LabelMetric):
    """Share of rows whose class is predicted."""

    word, doc = "accuracy", "Share of rows whose class is predicted."


class F1(_LabelMetric):
    """F1 of class 1; the mean over classes where there are others than 0 and 1."""

    word, doc = "f1", "F1 of class 1; the mean over classes where there are others than 0 and 1."


class MatthewsCorrelation(_LabelMetric):
    """Correlation of predicted and true classes."""

    word, doc = "matthews_correlation", "Correlation of predicted and true classes."


class PearsonR(_LabelMetric):
    """Pearson's correlation of predictions and labels."""

    word, doc = "pearsonr", "Pearson's correlation of predictions and labels."


class SpearmanR(_LabelMetric):
    """Spearman's correlation of predictions and labels."""

    word, doc = "spearmanr", "Spearman's correlation of predictions and labels."


def load_score(name: str) -> Score:
    """Load a score by ``evaluate``: by hub id, or from a local script. It runs the metric's code.

    Raises:
        UsageError: when it can't be loaded, naming the nearest built-in one.
    """
    try:
        metric = evaluate.load(name, keep_in_memory=True)
    except Exception as error:  # the script of a stranger, which may raise anything
        hint = did_you_mean(name, SCORES) if nearest(name, SCORES) else f"Built in: {', '.join(SCORES)}."
        raise UsageError(
            f"'{name}' is not built in, and evaluate can't load it: {_short(error)}. {hint} Others need a "
            "local script, or a hub that can be reached."
        ) from error

    def score(predictions: Numbers, labels: Numbers) -> float:
        try:
            answer = metric.compute(predictions=predictions.tolist(), references=labels.tolist())
        except Exception as error:  # a stranger's code again
            raise OlivineError(f"the metric '{name}' fails: {_short(error)}") from error
        return _number(name, metric.name, answer)

    return score


def _number(name: str, word: str, answer: object) -> float:
    """The one number of a metric's answer."""
    items = answer.items() if isinstance(answer, Mapping) else ()
    numbers = {str(key): float(value) for key, value in items if isinstance(value, Real)}
    value = numbers.get(word, next(iter(numbers.values())) if len(numbers) == 1 else None)
    if value is None:
        raise OlivineError(f"the metric '{name}' answers {_short(answer)}, which is not one number")
    if not math.isfinite(value) or abs(value) > 1:
        raise OlivineError(f"the metric '{name}' gives {value:.6g}; a task's score is a number from -1 to 1")
    return value


def _short(value: object) -> str:
    text = " ".join(str(value).split()).rstrip(".")
    return text if len(text) <= 200 else f"{text[:200]}..."
