"""The ``evaluate`` metrics give the numbers of the evaluator."""

from __future__ import annotations

import numpy as np
import pytest

from olivine.evaluators.quality import formulas as formulas
from olivine.evaluators.quality.hf_metrics import KLDivergence, Perplexity, PerplexityRatio, TopOneAgreement

RNG = np.random.default_rng(0)
LENGTHS = (5, 9, 7, 6)
OURS = [np.log(RNG.dirichlet(np.ones(4), n)) for n in LENGTHS]
BASE = [np.log(RNG.dirichlet(np.ones(4), n)) for n in LENGTHS]
NLL = np.array([-w[:, 0].sum() for w in OURS])
BASE_NLL = np.array([-w[:, 0].sum() for w in BASE])
TOKENS = np.array(LENGTHS, dtype=float)


def columns(windows: list[np.ndarray]) -> list[list[float]]:
    return [w[:, 0].tolist() for w in windows]


def test_perplexity_is_the_evaluators() -> None:
    answer = Perplexity().compute(predictions=columns(OURS))
    expected = formulas.perplexity(NLL, TOKENS)
    assert answer == pytest.approx({"perplexity": expected.value, "low": expected.low, "high": expected.high})
    assert answer["perplexity"] == pytest.approx(np.exp(NLL.sum() / 27))


def test_the_ratio_is_the_evaluators() -> None:
    answer = PerplexityRatio().compute(predictions=columns(OURS), references=columns(BASE))
    expected = formulas.perplexity_ratio(NLL, BASE_NLL, TOKENS)
    assert answer == pytest.approx({"perplexity_ratio": expected.value, "low": expected.low, "high": expected.high})


def test_the_ratio_needs_the_same_tokens() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        PerplexityRatio().compute(predictions=columns(OURS), references=columns(BASE[::-1]))


def test_divergence_is_the_evaluators() -> None:
    answer = KLDivergence().compute(predictions=[w.tolist() for w in OURS], references=[w.tolist() for w in BASE])
    by_hand = [(np.exp(b) * (b - o)).sum() for o, b in zip(OURS, BASE, strict=True)]
    expected = formulas.kl_divergence(np.array(by_hand), TOKENS)
    assert answer["kl_divergence"] == pytest.approx(expected.value, abs=1e-6)
    assert answer["high"] == pytest.approx(expected.high, abs=1e-6)


def test_agreement_is_the_evaluators() -> None:
    ours, base = [w.argmax(1) for w in OURS], [w.argmax(1) for w in BASE]
    answer = TopOneAgreement().compute(predictions=[w.tolist() for w in ours], references=[w.tolist() for w in base])
    agree = np.array([(o == b).sum() for o, b in zip(ours, base, strict=True)], dtype=float)
    assert answer["top1_agreement"] == pytest.approx(agree.sum() / 27)
    assert answer["low"] == pytest.approx(formulas.top1_agreement(agree, TOKENS).low)


@pytest.mark.parametrize("metric", [Perplexity, PerplexityRatio, KLDivergence, TopOneAgreement])
def test_every_metric_documents_itself(metric: type[Perplexity]) -> None:
    assert "for each window" in metric().inputs_description
    assert metric().description
