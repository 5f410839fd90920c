"""Task score: the fit of a graph's predictions to a user's own labelled rows, and its loss against the base."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.protocols import OutputProcess
from olivine.evaluators.quality.label_scores import Numbers, Score, accuracy
from olivine.evaluators.quality.row_predictions import Prediction, classes_of, predict
from olivine.evaluators.stats import Interval, jackknife, proportion, student
from olivine.passes.errors import UsageError
from olivine.passes.store.atomic_files import staged
from olivine.passes.store.digests import digest


@dataclass(frozen=True)
class TaskScore:
    """A metric over labelled rows, for a candidate and beside the base.

    Attributes:
        feeds: .npz files with the rows in their order, and the number of feeds in each: one a row, of ``cosine`` two.
        labels: classes or values: one a row, or as many as ``counts`` says, row after row.
        prediction: read from the outputs, as :func:`predict` does.
        score: of predictions and labels.
        store: folder for the base's predictions.
        reference_key: identifies the base and the rows.
        output: name of the output; the first one by default.
        protocol: data, split and metric, stamped into every measurement.
        counts: [rows] labels of each row; one each where there are none.
        positions: [rows] tokens that are scored, of the prediction ``tokens``.
    """

    feeds: tuple[tuple[Path, int], ...]
    labels: Numbers
    prediction: Prediction
    score: Score
    store: Path
    reference_key: str
    output: str | None = None
    protocol: Mapping[str, Any] = field(default_factory=dict)
    counts: tuple[int, ...] = ()
    positions: tuple[tuple[int, ...], ...] = ()

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
            "rows": self.rows,
            "prediction": self.prediction,
            "output": self.output or "the first",
            "base": round(self.score(base, self.labels), 6),
        }
        return [self._score(own, protocol), self._drop(base, own, protocol)]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.counts) or len(self.labels)

    def predictions(self, process: OutputProcess) -> Numbers:
        """Predictions of a graph, as many as there are labels.

        Raises:
            UsageError: as :meth:`evaluate`.
        """
        outputs: list[np.ndarray] = []
        with tempfile.TemporaryDirectory() as folder:
            for feeds, count in self.feeds:
                path = Path(folder) / "outputs.npz"
                process.outputs(feeds, count, path, self.output)
                with np.load(path) as written:
                    outputs += [written[str(number)] for number in range(count)]
        rows = predict(self.prediction, outputs, self.positions, self.output or "the first")
        predictions: Numbers = np.concatenate(rows)  # type: ignore[assignment] # its stub forgets what the arrays are
        classes = classes_of(self.prediction, outputs)
        wrong = [] if classes is None else self.labels[(self.labels < 0) | (self.labels >= classes)].tolist()
        if classes is not None and wrong:
            raise UsageError(
                f"evaluation.task.label: the label {wrong[0]} is no class of the graph, which has {classes}: "
                f"0 to {classes - 1}"
            )
        if len(predictions) != len(self.labels):
            raise UsageError(
                f"evaluation.task.label: the rows have {self.counts[0]} labels each, the graph {len(rows[0])}. "
                "Name them all in 'label2id' of a config.json in the model's folder"
            )
        return predictions

    def _score(self, own: Numbers, protocol: Mapping[str, Any]) -> Measurement:
        if self.score is accuracy and not self.counts:
            right = np.asarray(own == self.labels, dtype=np.float64)
            interval = proportion(int(right.sum()), len(right))
            return _measured("task_score", interval, right, protocol, "Wilson's score interval")
        interval = jackknife(range(self.rows), lambda rows: self._of(own, rows)).clip(-1.0, 1.0)
        return _measured("task_score", interval, own, protocol, "delete-a-group jackknife")

    def _drop(self, base: Numbers, own: Numbers, protocol: Mapping[str, Any]) -> Measurement:
        """The base's score less the candidate's, paired: the same rows are left out of both."""
        if self.score is accuracy and not self.counts:
            lost = np.asarray(base == self.labels, dtype=np.float64) - (own == self.labels)
            return _measured("task_drop", student(lost), lost, protocol, "Student's, paired by row")
        interval = jackknife(range(self.rows), lambda rows: self._of(base, rows) - self._of(own, rows))
        return _measured("task_drop", interval, own[:0], protocol, "delete-a-group jackknife, paired by row")

    def _of(self, predictions: Numbers, rows: Any) -> float:
        chosen = np.fromiter(rows, dtype=np.intp)
        if self.counts:
            chosen = np.flatnonzero(np.isin(np.repeat(np.arange(self.rows), self.counts), chosen))
        return self.score(predictions[chosen], self.labels[chosen])


def _measured(
    metric: str, interval: Interval, samples: Numbers, protocol: Mapping[str, Any], estimator: str
) -> Measurement:
    return Measurement.of(metric, interval, samples.tolist(), {**protocol, "interval": estimator})
