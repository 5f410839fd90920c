from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats as scipy_stats
from sklearn import metrics as sklearn_metrics

from olivine.evaluators.quality.label_metrics import F1, Accuracy, MatthewsCorrelation, PearsonR, SpearmanR, load_score
from olivine.evaluators.quality.label_scores import SCORES, built_in
from olivine.passes.errors import OlivineError, UsageError

RNG = np.random.default_rng(0)
TRUE = RNG.integers(0, 3, 60)
FOUND = np.where(RNG.random(60) < 0.7, TRUE, RNG.integers(0, 3, 60))
VALUES = RNG.normal(size=60).round(1)
NEAR = VALUES + RNG.normal(size=60).round(1)

SCRIPT = """
import datasets
import evaluate


class Mine(evaluate.Metric):
    def _info(self):
        value = datasets.Value("int64")
        return evaluate.MetricInfo(
            description="", citation="", features=datasets.Features({{"predictions": value, "references": value}})
        )

    def _compute(self, predictions, references):
        return {answer}
"""


def script(folder: Path, answer: str) -> str:
    """A metric of one's own, as a local script."""
    path = folder / "mine.py"
    path.write_text(SCRIPT.format(answer=answer))
    return str(path)


def test_scores_of_classes_are_those_of_scikit_learn() -> None:
    assert SCORES["accuracy"](FOUND, TRUE) == pytest.approx(sklearn_metrics.accuracy_score(TRUE, FOUND))
    assert SCORES["matthews_correlation"](FOUND, TRUE) == pytest.approx(sklearn_metrics.matthews_corrcoef(TRUE, FOUND))
    title, score = built_in("f1", TRUE)
    assert title == "f1 (macro)"
    assert score(FOUND, TRUE) == pytest.approx(sklearn_metrics.f1_score(TRUE, FOUND, average="macro"))
    title, score = built_in("f1", TRUE > 0)
    assert title == "f1 (binary)"
    assert score(FOUND > 0, TRUE > 0) == pytest.approx(sklearn_metrics.f1_score(TRUE > 0, FOUND > 0))


def test_correlations_are_those_of_scipy() -> None:
    assert len(set(VALUES)) < len(VALUES), "ties are part of it"
    assert SCORES["pearsonr"](NEAR, VALUES) == pytest.approx(scipy_stats.pearsonr(NEAR, VALUES)[0])
    assert SCORES["spearmanr"](NEAR, VALUES) == pytest.approx(scipy_stats.spearmanr(NEAR, VALUES)[0])


@pytest.mark.parametrize("name", ["matthews_correlation", "pearsonr", "spearmanr"])
def test_what_is_constant_correlates_with_nothing(name: str) -> None:
    assert SCORES[name](np.zeros(60), TRUE) == 0


@pytest.mark.parametrize("metric", [Accuracy, F1, MatthewsCorrelation, PearsonR, SpearmanR])
def test_the_metrics_of_evaluate_give_the_same_numbers(metric: type[Accuracy]) -> None:
    word = metric.word
    scored = metric().compute(predictions=FOUND.tolist(), references=TRUE.tolist())
    assert scored == pytest.approx({word: built_in(word, TRUE)[1](FOUND, TRUE)})


def test_a_script_of_ones_own_is_a_metric(tmp_path: Path) -> None:
    score = load_score(
        script(tmp_path, "{'mine': sum(p == r for p, r in zip(predictions, references)) / len(references)}")
    )
    assert score(FOUND, TRUE) == pytest.approx(np.mean(FOUND == TRUE))


@pytest.mark.parametrize(
    ("answer", "title"),
    [("{'a': 0.1, 'b': 0.2}", "not one number"), ("{'mine': 34.5}", "from -1 to 1"), ("1 / 0", "division by zero")],
)
def test_an_answer_that_is_no_score_is_named(answer: str, title: str, tmp_path: Path) -> None:
    with pytest.raises(OlivineError, match=title):
        load_score(script(tmp_path, answer))(FOUND, TRUE)


def test_a_metric_that_needs_the_hub_is_named_with_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluate.config.HF_EVALUATE_OFFLINE", True)
    with pytest.raises(UsageError, match=r"'acuracy' is not built in.*Did you mean 'accuracy'.*local script"):
        load_score("acuracy")
