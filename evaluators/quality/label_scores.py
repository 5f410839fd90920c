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
    """F1 of class 1, or with ``macro`` the mean over all classes that occur; 0 where a class is never met."""
    from sklearn.metrics import f1_score  # heavy, and only needed here

    return float(f1_score(labels, predictions, average=average, zero_division=0.0))


def matthews_correlation(predictions: Numbers, labels: Numbers) -> float:
    """Correlation of two classifications; 0 where either has a single class."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, predictions))


def pearsonr(predictions: Numbers, labels: Numbers) -> float:
    """Pearson's correlation; 0 where either is constant."""
    if np.ptp(predictions) == 0 or np.ptp(labels) == 0:
        return 0.0
    return float(np.clip(np.corrcoef(predictions, labels)[0, 1], -1.0, 1.0))


def spearmanr(predictions: Numbers, labels: Numbers) -> float:
    """Spearman's correlation: Pearson's of the ranks, equal values sharing their mean rank."""
    from scipy.stats import rankdata

    return pearsonr(rankdata(predictions), rankdata(labels))


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
