"""Task score: the fit of a graph's predictions to a user's own labelled rows, and its loss against the base."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.protocols import OutputProcess
from olivine.evaluators.quality.label_scores import Numbers, Score, accuracy
from olivine.evaluators.stats import Interval, jackknife, proportion, student
from olivine.passes.errors import UsageError
from olivine.passes.store.atomic_files import staged
from olivine.passes.store.digests import digest

Prediction = Literal["argmax", "cosine"]


@dataclass(frozen=True)
class TaskScore:
    """A metric over labelled rows, for a candidate and beside the base.

    Attributes:
        feeds: .npz files with the rows in their order, and the number of feeds in each: one a row, of ``cosine`` two.
        labels: [rows] classes, or values.
        prediction: the class of the greatest logit, or the cosine of a row's two embeddings.
        score: of predictions and labels.
        store: folder for the base's predictions.
        reference_key: identifies the base and the rows.
        output: name of the output; the first one by default.
        protocol: data, split and metric, stamped into every measurement.
    """

    feeds: tuple[tuple[Path, int], ...]
    labels: Numbers
    prediction: Prediction
    score: Score
    store: Path
    reference_key: str
    output: str | None = None
    protocol: Mapping[str, Any] = field(default_factory=dict)

    name: ClassVar[str] = "task"
    metrics: ClassVar[tuple[str, ...]] = ("task_score", "task_drop")

    def evaluate(self, candidate: OutputProcess, reference: OutputProcess) -> list[Measurement]:
        """Predict all rows; the base's predictions are stored once.

        Raises:
            UsageError: when the output holds no logits or embeddings, or a label is none of its classes.
            ModelProcessFailed: when an output is not finite.
            OlivineError: when the metric fails.
        """
        key = digest([self.reference_key, self.prediction, self.output], length=12)
        stored = self.store / f"task-{key}.npy"
        if not stored.is_file():
            predictions = self.predictions(reference)
            with staged(stored) as temporary, temporary.open("wb") as stream:
                np.save(stream, predictions, allow_pickle=False)
        base: Numbers = np.load(stored)
        own = base if candidate is reference else self.predictions(candidate)
        protocol = {
            **self.protocol,
            "rows": len(self.labels),
            "prediction": self.prediction,
            "output": self.output or "the first",
            "base": round(self.score(base, self.labels), 6),
        }
        return [self._score(own, protocol), self._drop(base, own, protocol)]

    def predictions(self, process: OutputProcess) -> Numbers:
        """[rows] predictions of a graph.

        Raises:
            UsageError: as :meth:`evaluate`.
        """
        rows: list[np.ndarray] = []
        with tempfile.TemporaryDirectory() as folder:
            for feeds, count in self.feeds:
                path = Path(folder) / "outputs.npz"
                process.outputs(feeds, count, path, self.output)
                with np.load(path) as written:
                    rows += [self._vector(written[str(number)]) for number in range(count)]
        vectors = np.stack(rows)
        if self.prediction == "cosine":
            return _cosines(vectors[::2], vectors[1::2])
        classes = vectors.shape[1]
        wrong = self.labels[(self.labels < 0) | (self.labels >= classes)]
        if len(wrong):
            raise UsageError(
                f"evaluation.task.label: the label {wrong[0]} is no class of the graph, which has {classes}: "
                f"0 to {classes - 1}"
            )
        return np.asarray(vectors.argmax(axis=1))

    def _vector(self, output: np.ndarray) -> np.ndarray:
        """The output of one row: logits, or an embedding."""
        if output.ndim == 2 and len(output) == 1 and output.shape[1] > 1:
            row: np.ndarray = output[0]
            return row
        wanted = "logits [1, classes]" if self.prediction == "argmax" else "one embedding [1, size]"
        raise UsageError(
            f"evaluation.task.prediction: '{self.prediction}' takes {wanted} for a row; the graph's output "
            f"'{self.output or 'the first'}' has the shape {list(output.shape)}. evaluation.output names another one"
        )

    def _score(self, own: Numbers, protocol: Mapping[str, Any]) -> Measurement:
        if self.score is accuracy:
            right = np.asarray(own == self.labels, dtype=np.float64)
            interval = proportion(int(right.sum()), len(right))
            return _measured("task_score", interval, right, protocol, "Wilson's score interval")
        interval = jackknife(range(len(own)), lambda rows: self._of(own, rows)).clip(-1.0, 1.0)
        return _measured("task_score", interval, own, protocol, "delete-a-group jackknife")

    def _drop(self, base: Numbers, own: Numbers, protocol: Mapping[str, Any]) -> Measurement:
        """The base's score less the candidate's, paired: the same rows are left out of both."""
        if self.score is accuracy:
            lost = np.asarray(base == self.labels, dtype=np.float64) - (own == self.labels)
            return _measured("task_drop", student(lost), lost, protocol, "Student's, paired by row")
        interval = jackknife(range(len(own)), lambda rows: self._of(base, rows) - self._of(own, rows))
        return _measured("task_drop", interval, own[:0], protocol, "delete-a-group jackknife, paired by row")

    def _of(self, predictions: Numbers, rows: Any) -> float:
        chosen = np.fromiter(rows, dtype=np.intp)
        return self.score(predictions[chosen], self.labels[chosen])


def _cosines(a: np.ndarray, b: np.ndarray) -> Numbers:
    """[rows] cosines of two embeddings a row; 0 where one is zero."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines: Numbers = np.divide((a * b).sum(axis=1), lengths, out=np.zeros(len(a)), where=lengths > 0)
    return cosines


def _measured(
    metric: str, interval: Interval, samples: Numbers, protocol: Mapping[str, Any], estimator: str
) -> Measurement:
    return Measurement.of(metric, interval, samples.tolist(), {**protocol, "interval": estimator})
