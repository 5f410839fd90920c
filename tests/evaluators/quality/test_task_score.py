from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from olivine.evaluators.quality.label_scores import SCORES
from olivine.evaluators.quality.task_score import TaskScore
from olivine.evaluators.stats import jackknife, proportion
from olivine.passes.errors import UsageError

RNG = np.random.default_rng(0)
ROWS = 20
BASE = RNG.normal(size=(2 * ROWS, 3)).astype(np.float32)
OWN = BASE + RNG.normal(size=BASE.shape).astype(np.float32)
CLASSES = BASE[:ROWS].argmax(axis=1)


class FakeProcess:
    """Answers with rows of one array, whatever the feeds."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors, self.asked = vectors, 0

    def outputs(self, feeds: Path, count: int, path: Path, output: str | None) -> None:
        start = int(feeds.stem)
        self.asked += count
        np.savez(path, **{str(i): self.vectors[start + i][None] for i in range(count)})


def task(folder: Path, **changes: object) -> TaskScore:
    settings: dict[str, object] = {
        "feeds": ((Path("0.npz"), 16), (Path("16.npz"), 4)),
        "labels": CLASSES,
        "prediction": "argmax",
        "score": SCORES["accuracy"],
        "store": folder,
        "reference_key": "key",
    }
    return TaskScore(**(settings | changes))  # type: ignore[arg-type] # a test's shorthand


def test_accuracy_is_a_share_of_rows_and_its_drop_is_paired_by_row(tmp_path: Path) -> None:
    score, drop = task(tmp_path).evaluate(FakeProcess(OWN), FakeProcess(BASE))
    right = OWN[:ROWS].argmax(axis=1) == CLASSES
    expected = proportion(int(right.sum()), ROWS)
    assert 0 < right.mean() < 1
    assert (score.metric, score.unit, score.value, score.low) == ("task_score", "ratio", right.mean(), expected.low)
    assert score.samples == tuple(right.astype(float))
    assert drop.value == pytest.approx(1 - right.mean())
    assert drop.low < drop.value < drop.high
    assert score.protocol["base"] == 1
    assert score.protocol["rows"] == ROWS


def test_the_base_has_lost_nothing_and_predicts_once(tmp_path: Path) -> None:
    base = FakeProcess(BASE)
    score, drop = task(tmp_path).evaluate(base, base)
    assert (score.value, drop.value, drop.low, drop.high) == (1, 0, 0, 0)
    assert score.low < 1, "20 rows of 20 are no proof"
    task(tmp_path).evaluate(FakeProcess(OWN), base)
    assert base.asked == ROWS


def test_a_correlation_of_cosines_has_the_jackknife_of_its_rows(tmp_path: Path) -> None:
    def cosines(vectors: np.ndarray) -> np.ndarray:
        a, b = vectors[::2].astype(float), vectors[1::2].astype(float)
        measured: np.ndarray = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        return measured

    pearson, labels = SCORES["pearsonr"], RNG.normal(size=ROWS)
    predictions = task(tmp_path, feeds=((Path("0.npz"), 40),), labels=labels, prediction="cosine", score=pearson)
    score, drop = predictions.evaluate(FakeProcess(OWN), FakeProcess(BASE))
    own, base = cosines(OWN), cosines(BASE)
    assert score.value == pytest.approx(pearson(own, labels))
    expected = jackknife(range(ROWS), lambda rows: pearson(own[list(rows)], labels[list(rows)]))
    assert score.low == pytest.approx(max(-1.0, expected.low))
    assert drop.value == pytest.approx(pearson(base, labels) - pearson(own, labels))


def test_outputs_and_labels_that_do_not_fit_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"label 7 is no class of the graph, which has 3: 0 to 2"):
        task(tmp_path, labels=CLASSES + 7 * (np.arange(ROWS) == 0) - CLASSES[0] * (np.arange(ROWS) == 0)).evaluate(
            FakeProcess(BASE), FakeProcess(BASE)
        )
    tokens = np.zeros((ROWS, 5, 3), np.float32)
    with pytest.raises(UsageError, match=r"takes logits \[1, classes\].*shape \[1, 5, 3\]"):
        task(tmp_path).evaluate(FakeProcess(tokens), FakeProcess(tokens))


def test_labels_that_hold_are_scored_together_and_rows_stay_the_unit_of_the_interval(tmp_path: Path) -> None:
    f1, held = SCORES["f1"], (BASE[:ROWS] > 0).astype(int)
    labels = task(tmp_path, labels=held.ravel(), prediction="labels", score=f1, counts=(3,) * ROWS)
    score, drop = labels.evaluate(FakeProcess(OWN), FakeProcess(BASE))
    own = (OWN[:ROWS] > 0).astype(int)
    assert score.value == pytest.approx(f1(own.ravel(), held.ravel()))
    expected = jackknife(range(ROWS), lambda rows: f1(own[list(rows)].ravel(), held[list(rows)].ravel()))
    assert (score.low, score.high) == pytest.approx((expected.low, min(1.0, expected.high)))
    assert drop.value == pytest.approx(1 - score.value)
    assert score.protocol["rows"] == ROWS


def test_a_graph_with_more_labels_than_the_rows_name_is_refused(tmp_path: Path) -> None:
    short = task(tmp_path, labels=np.ones(2 * ROWS, int), prediction="labels", counts=(2,) * ROWS)
    with pytest.raises(UsageError, match=r"2 labels each, the graph 3\. Name them all in 'label2id'"):
        short.evaluate(FakeProcess(BASE), FakeProcess(BASE))


def test_words_are_scored_at_their_positions(tmp_path: Path) -> None:
    tokens = RNG.normal(size=(ROWS, 5, 3)).astype(np.float32)
    positions = tuple((0, 4)[: 1 + n % 2] for n in range(ROWS))
    labels = np.concatenate([tokens[n, list(at)].argmax(-1) for n, at in enumerate(positions)])
    counts = tuple(map(len, positions))
    words = task(tmp_path, labels=labels, prediction="tokens", counts=counts, positions=positions)
    score, _ = words.evaluate(FakeProcess(tokens), FakeProcess(tokens))
    assert score.value == 1
