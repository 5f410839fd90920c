"""Scores of predictions against the labels of rows: pure functions of both, larger is better."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from olivine.evaluators.stats import Floats

#: Classes, or values.
Numbers = npt.NDArray[np.integer] | Floats
#: (predictions [rows], labels [rows]) -> the score.
Score = Callable[[Numbers, Numbers], float]


def accuracy(predictions: Numbers, labels: Numbers) -> float:
    """Share of rows whose class is predicted."""
    return float(np.mean(predictions == labels))


def f1(predictions: Numbers, labels: Numbers, average: str = "binary") -> float:
    """F1 of class 1, or with ``macro`` the mean over all classes that occur; 0 where a class is never met.

    Source: van Rijsbergen (1979), Information Retrieval, chapter 7; the averages are those of scikit-learn.
    """
    classes = [1] if average == "binary" else np.union1d(predictions, labels).tolist()
    return float(np.mean([_f1_of(predictions == label, labels == label) for label in classes]))


def _f1_of(predicted: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> float:
    both = int(predicted.sum()) + int(true.sum())
    return 2 * int((predicted & true).sum()) / both if both else 0.0


def matthews_correlation(predictions: Numbers, labels: Numbers) -> float:
    """Correlation of two classifications; 0 where either has a single class.

    Source: Gorodkin (2004), Comparing two K-category assignments by a K-category correlation coefficient,
    Computational Biology and Chemistry 28(5), equation 2.
    """
    classes = np.union1d(predictions, labels)
    ours, true = (np.equal.outer(np.asarray(numbers), classes).astype(np.float64) for numbers in (predictions, labels))
    ours, true = ours - ours.mean(axis=0), true - true.mean(axis=0)
    return _ratio(float((ours * true).sum()), float((ours**2).sum()) * float((true**2).sum()))


def pearsonr(predictions: Numbers, labels: Numbers) -> float:
    """Pearson's correlation; 0 where either is constant."""
    ours, true = (np.asarray(numbers, dtype=np.float64) for numbers in (predictions, labels))
    if np.ptp(ours) == 0 or np.ptp(true) == 0:
        return 0.0
    ours, true = ours - ours.mean(), true - true.mean()
    return _ratio(float((ours * true).sum()), float((ours**2).sum()) * float((true**2).sum()))


def spearmanr(predictions: Numbers, labels: Numbers) -> float:
    """Spearman's correlation: Pearson's of the ranks, equal values sharing their mean rank."""
    return pearsonr(_ranks(predictions), _ranks(labels))


def _ranks(numbers: Numbers) -> Floats:
    _, place, count = np.unique(numbers, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks: Floats = (last - (count - 1) / 2)[place]
    return ranks


def _ratio(product: float, squares: float) -> float:
    return min(1.0, max(-1.0, product / squares**0.5)) if squares > 0 else 0.0


SCORES: dict[str, Score] = {
    "accuracy": accuracy,
    "f1": f1,
    "matthews_correlation": matthews_correlation,
    "pearsonr": pearsonr,
    "spearmanr": spearmanr,
}
#: Those that compare classes.
OF_CLASSES = ("accuracy", "f1", "matthews_correlation")


def built_in(name: str, labels: Numbers) -> tuple[str, Score]:
    """Name in protocols and function of a built-in score, for such labels: F1 is of class 1 where all are 0 or 1."""
    if name != "f1":
        return name, SCORES[name]
    average = "binary" if set(np.unique(labels).tolist()) <= {0, 1} else "macro"
    return f"f1 ({average})", partial(f1, average=average)
