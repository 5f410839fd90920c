from __future__ import annotations

import numpy as np
import pytest

from olivine.evaluators.quality.row_predictions import Prediction, predict
from olivine.passes.errors import UsageError


def test_one_logit_is_a_value_or_a_class_by_its_sign() -> None:
    outputs = [np.array([[0.5]], np.float32), np.array([-2.0], np.float32)]
    assert [row.tolist() for row in predict("value", outputs)] == [[0.5], [-2.0]]
    assert [row.tolist() for row in predict("threshold", outputs)] == [[1], [0]]


def test_each_label_holds_where_its_own_logit_is_above_0() -> None:
    (row,) = predict("labels", [np.array([[1.0, -1.0, 3.0]], np.float32)])
    assert row.tolist() == [1, 0, 1]


def test_words_have_the_class_of_the_token_at_their_position() -> None:
    logits = np.zeros((1, 4, 3), np.float32)
    logits[0, [1, 3], [2, 1]] = 5
    assert [row.tolist() for row in predict("tokens", [logits], [(1, 3)])] == [[2, 1]]


@pytest.mark.parametrize(
    ("prediction", "shape", "said"),
    [
        ("argmax", (1, 1), r"takes logits \[1, classes\] .*shape \[1, 1\], which threshold or value fit"),
        ("argmax", (1, 5, 3), r"shape \[1, 5, 3\], which tokens fits"),
        ("value", (1, 4), r"takes one value \[1, 1\].*which argmax, labels and cosine fit"),
        ("tokens", (1, 4), r"takes logits of each token \[1, tokens, classes\]"),
    ],
)
def test_an_output_of_another_form_names_the_predictions_that_fit(
    prediction: Prediction, shape: tuple[int, ...], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        predict(prediction, [np.zeros(shape, np.float32)], [(0,)])
