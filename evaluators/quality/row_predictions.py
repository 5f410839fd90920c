"""Predictions of labelled rows, read from a graph's outputs: classes, values, labels that hold, tags of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from olivine.evaluators.quality.label_scores import Numbers
from olivine.passes.errors import UsageError

Prediction = Literal["argmax", "threshold", "labels", "tokens", "value", "cosine"]
#: Predictions that are classes or yes and no; the others are values.
CLASSES: tuple[Prediction, ...] = ("argmax", "threshold", "labels", "tokens")
#: Predictions that read a logit or value of each row alone.
_SINGLE: tuple[Prediction, ...] = ("threshold", "value")
_TAKES = {
    "argmax": "logits [1, classes]",
    "threshold": "one logit [1, 1]",
    "value": "one value [1, 1]",
    "labels": "a logit for each label [1, labels]",
    "tokens": "logits of each token [1, tokens, classes]",
    "cosine": "one embedding [1, size]",
}
#: Predictions that fit an output, by its form.
_FITTING = (
    (lambda shape: shape in ((1,), (1, 1)), "threshold or value fit"),
    (lambda shape: len(shape) == 2 and shape[0] == 1, "argmax, labels and cosine fit"),
    (lambda shape: len(shape) == 3 and shape[0] == 1, "tokens fits"),
)


def predict(
    prediction: Prediction,
    outputs: Sequence[np.ndarray],
    positions: Sequence[Sequence[int]] = (),
    name: str = "the first",
) -> list[Numbers]:
    """The predictions of each row.

    Args:
        prediction: their kind.
        outputs: of the graph, one a row; of ``cosine`` two.
        positions: tokens of each row that are scored; of ``tokens`` only.
        name: of the output, for errors.

    Returns:
        For each row one number, of ``labels`` one a label (0 or 1), of ``tokens`` one a position.

    Raises:
        UsageError: when the output has another form.
    """
    for output in outputs:
        if not _fits(prediction, output.shape):
            fitting = "; ".join(word for fits, word in _FITTING if fits(output.shape))
            raise UsageError(
                f"evaluation.task.prediction: '{prediction}' takes {_TAKES[prediction]} for a row; the graph's output "
                f"'{name}' has the shape {list(output.shape)}"
                f"{f', which {fitting}' if fitting else ''}. evaluation.output names another one"
            )
    if prediction == "cosine":
        return [np.array([value]) for value in _cosines(np.concatenate(outputs[::2]), np.concatenate(outputs[1::2]))]
    if prediction == "tokens":
        return [output[0].argmax(axis=-1)[list(own)] for output, own in zip(outputs, positions, strict=True)]
    if prediction == "argmax":
        return [output[0].argmax(keepdims=True) for output in outputs]
    rows = [output.reshape(-1) for output in outputs]
    return (
        [row.astype(np.float64) for row in rows] if prediction == "value" else [(row > 0).astype(int) for row in rows]
    )


def classes_of(prediction: Prediction, outputs: Sequence[np.ndarray]) -> int | None:
    """Number of classes that a prediction may have; None for values."""
    if prediction not in CLASSES:
        return None
    return 2 if prediction in ("threshold", "labels") else int(outputs[0].shape[-1])


def _fits(prediction: Prediction, shape: tuple[int, ...]) -> bool:
    if prediction in _SINGLE:
        return shape in ((1,), (1, 1))
    if prediction == "tokens":
        return len(shape) == 3 and shape[0] == 1
    return len(shape) == 2 and shape[0] == 1 and (shape[1] > 1 or prediction == "labels")


def _cosines(a: np.ndarray, b: np.ndarray) -> Numbers:
    """[rows] cosines of two embeddings a row; 0 where one is zero."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines: Numbers = np.divide((a * b).sum(axis=1), lengths, out=np.zeros(len(a)), where=lengths > 0)
    return cosines
