"""Labels of a task's rows as numbers: one a row, one a label that may hold, or one a word."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from olivine.evaluators.quality.label_scores import Numbers
from olivine.evaluators.quality.row_predictions import CLASSES, Prediction
from olivine.passes.errors import UsageError
from olivine.search.workloads.task_rows import PLACE, LabelledRow

#: The label of a word that does not count, as data sets and transformers write it.
UNLABELLED = -100
#: A row -> the number of the word that each of its tokens belongs to; None for special tokens.
Words = Callable[[LabelledRow], Sequence[int | None]]


@dataclass(frozen=True)
class RowLabels:
    """Labels of some rows.

    Attributes:
        numbers: classes or values, row after row.
        counts: [rows] how many of them each row has; empty where each has one.
        positions: [rows] tokens that they are about, of the prediction ``tokens``.
    """

    numbers: Numbers
    counts: tuple[int, ...] = ()
    positions: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class LabelReader:
    """Reads labels as a prediction needs them.

    Attributes:
        column: of the labels, for errors.
        prediction: that they are compared with.
        data: name of the data, for errors.
        classes: name of a class -> its number.
        labels: of every row of the task; they tell how many labels there are where no config does.
    """

    column: str
    prediction: Prediction
    data: str
    classes: Mapping[str, int]
    labels: Sequence[Any]

    def of(self, rows: Sequence[LabelledRow], words: Words) -> RowLabels:
        """The labels of rows.

        Raises:
            UsageError: naming one that is none.
        """
        if self.prediction == "labels":
            held = [self._held(row.label) for row in rows]
            table = np.zeros((len(rows), self._most), np.int64)
            for line, numbers in zip(table, held, strict=True):
                line[list(numbers)] = 1
            return RowLabels(table.ravel(), (self._most,) * len(rows))
        if self.prediction == "tokens":
            return self._of_words(rows, words)
        whole = self.prediction in CLASSES
        values = np.array([self._number(row.label) for row in rows], dtype=np.float64)
        return RowLabels(values.astype(np.int64) if whole else values)

    def _of_words(self, rows: Sequence[LabelledRow], words: Words) -> RowLabels:
        """The class of each word whose first token is read; the others are cut off."""
        numbers, counts, positions = list[int](), list[int](), list[tuple[int, ...]]()
        for row in rows:
            tags = [int(self._number(tag)) for tag in self._listed(row.label)]
            if len(tags) != len(row.texts):
                raise self._mistake(row.label, f"{len(row.texts)} classes, one a word of {list(row.texts)[:6]}")
            owners = words(row)
            starts = {word: token for token, word in reversed(list(enumerate(owners))) if word is not None}
            scored = sorted((token, tags[word]) for word, token in starts.items() if tags[word] != UNLABELLED)
            numbers += [tag for _, tag in scored]
            counts.append(len(scored))
            positions.append(tuple(token for token, _ in scored))
        if not numbers:
            raise UsageError(f"{PLACE}.label: no word of {self.data} has a label in '{self.column}'")
        return RowLabels(np.array(numbers, dtype=np.int64), tuple(counts), tuple(positions))

    @cached_property
    def _most(self) -> int:
        """Labels that may hold: those that the model names, or up to the highest that a row has."""
        named = max(self.classes.values(), default=-1)
        return 1 + max(named, *(max(self._held(label), default=0) for label in self.labels))

    def _held(self, label: Any) -> set[int]:
        return {int(self._number(one)) for one in self._listed(label)}

    def _listed(self, label: Any) -> list[Any]:
        """A list, or the JSON of one, which is how a CSV file holds it."""
        try:
            found = json.loads(label) if isinstance(label, str) else label
        except ValueError:
            found = None
        if isinstance(found, np.ndarray):
            found = found.tolist()
        if not isinstance(found, list | tuple):
            raise self._mistake(label, "a list, such as [0, 2]")
        return list(found)

    def _number(self, label: Any) -> float:
        whole = self.prediction in CLASSES
        if isinstance(label, str) and label in self.classes:
            return self.classes[label]
        try:
            number = float(label)
        except (TypeError, ValueError):
            number = float("nan")
        if not np.isfinite(number) or (whole and number != int(number)) or (number < 0 and self._counted(number)):
            wanted = "the number of a class" if whole else "a number"
            names = f", or one of {', '.join(self.classes)}" if whole and self.classes else ""
            if whole and not self.classes and isinstance(label, str):
                names = "; names of classes have to be in 'label2id' of the model's config.json"
            raise self._mistake(label, f"{wanted}{names}")
        return number

    def _counted(self, number: float) -> bool:
        """True where a negative number can be no label; elsewhere the graph tells."""
        return self.prediction == "labels" or (self.prediction == "tokens" and number != UNLABELLED)

    def _mistake(self, label: Any, wanted: str) -> UsageError:
        return UsageError(f"{PLACE}.label: {self.data} has the label {label!r} in '{self.column}'; it takes {wanted}")
