from __future__ import annotations

from typing import Any

import pytest

from olivine.evaluators.quality.row_predictions import Prediction
from olivine.passes.errors import UsageError
from olivine.search.workloads.task_labels import LabelReader, RowLabels
from olivine.search.workloads.task_rows import LabelledRow

TAGS = {"O": 0, "PER": 1}


def read(prediction: Prediction, rows: list[LabelledRow], classes: dict[str, int], *words: int | None) -> RowLabels:
    reader = LabelReader("label", prediction, "rows.jsonl", classes, [row.label for row in rows])
    return reader.of(rows, lambda row: words)


def test_labels_that_hold_are_numbers_names_or_the_json_of_a_csv() -> None:
    rows = [LabelledRow(("a",), label) for label in ([0, 2], ["PER"], "[2]", [])]
    labels = read("labels", rows, TAGS)
    assert labels.counts == (3,) * 4
    assert labels.numbers.reshape(4, 3).tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 1], [0, 0, 0]]


def test_a_word_is_scored_at_its_first_token_unless_cut_off_or_without_a_label() -> None:
    row = LabelledRow(("one", "two", "three", "four"), ["PER", -100, 0, 1])
    labels = read("tokens", [row], TAGS, None, 0, 0, 1, 2, 2, None)
    assert labels.positions == ((1, 4),)
    assert labels.numbers.tolist() == [1, 0]
    assert labels.counts == (2,)


@pytest.mark.parametrize(
    ("prediction", "label", "said"),
    [
        ("labels", 3, r"the label 3 in 'label'; it takes a list, such as \[0, 2\]"),
        ("labels", ["LOC"], r"the label 'LOC' in 'label'; it takes the number of a class, or one of O, PER"),
        ("labels", [-1], "the label -1"),
        ("tokens", [0], r"it takes 2 classes, one a word of \['a', 'b'\]"),
        ("value", "high", "it takes a number"),
    ],
)
def test_what_is_no_label_is_named_with_what_fits(prediction: Prediction, label: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read(prediction, [LabelledRow(("a", "b"), label)], TAGS)
