from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from olivine.evaluators.process.servers.scoring import bucketed_kl, likelihood, score, top_k

LOGITS = hnp.arrays(np.float32, (40, 17), elements=st.floats(-20, 20, width=32))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    x = logits.astype(np.float64)
    return x - np.logaddexp.reduce(x, axis=1, keepdims=True)


@given(base=LOGITS, ours=LOGITS, seed=st.integers(0, 9))
def test_scores_equal_the_plain_formulas(base: np.ndarray, ours: np.ndarray, seed: int) -> None:
    targets = np.random.default_rng(seed).integers(0, 17, 40).astype(np.int32)
    scores = score(ours, targets, top_k(base, targets, 512))
    p, q = log_softmax(base), log_softmax(ours)
    np.testing.assert_allclose(scores.nll, -q[np.arange(40), targets], atol=1e-4)
    np.testing.assert_allclose(scores.kl, (np.exp(p) * (p - q)).sum(axis=1), atol=1e-4)
    np.testing.assert_array_equal(scores.agree, base.argmax(axis=1) == ours.argmax(axis=1))


@given(base=LOGITS, ours=LOGITS, k=st.integers(1, 16))
def test_a_bucket_for_the_tail_only_loses_divergence(base: np.ndarray, ours: np.ndarray, k: int) -> None:
    targets = np.zeros(40, dtype=np.int32)
    whole = score(ours, targets, top_k(base, targets, 17)).kl
    cut = score(ours, targets, top_k(base, targets, k)).kl
    assert (cut <= whole + 1e-4).all()
    assert (cut >= -1e-5).all()


@given(base=LOGITS, k=st.integers(1, 17))
def test_a_model_agrees_with_itself(base: np.ndarray, k: int) -> None:
    targets = np.zeros(40, dtype=np.int32)
    scores = score(base, targets, top_k(base, targets, k))
    assert scores.agree.all()
    np.testing.assert_allclose(scores.kl, 0, atol=1e-6)


def test_ties_agree_whatever_the_number_of_kept_tokens() -> None:
    logits = np.zeros((3, 10), dtype=np.float32)
    targets = np.zeros(3, dtype=np.int32)
    for k in (1, 4, 10):
        assert score(logits, targets, top_k(logits, targets, k)).agree.all()


def test_the_tail_is_one_more_outcome() -> None:
    base, ours = np.log([[0.5, 0.3]]), np.log([[0.25, 0.25]])
    by_hand = 0.5 * np.log(2) + 0.3 * np.log(0.3 / 0.25) + 0.2 * np.log(0.2 / 0.5)
    scores = bucketed_kl(base.astype(np.float32), np.array([0.2]), ours, np.array([0.5]))
    assert scores[0] == pytest.approx(by_hand, abs=1e-6)


@given(logits=LOGITS, seed=st.integers(0, 9))
def test_the_likelihood_of_given_tokens_is_the_plain_formula(logits: np.ndarray, seed: int) -> None:
    best = logits.argmax(axis=1).astype(np.int32)
    targets = np.random.default_rng(seed).integers(0, 17, 40).astype(np.int32)
    logp, greedy = likelihood(logits, targets)
    assert logp == pytest.approx(log_softmax(logits)[np.arange(40), targets].sum(), abs=1e-3)
    assert greedy == bool((targets == best).all())
    assert likelihood(logits, best)[1]


def test_logits_that_are_not_finite_have_no_likelihood() -> None:
    with pytest.raises(FloatingPointError, match="not finite"):
        likelihood(np.array([[0.0, np.nan]], dtype=np.float32), np.array([0], dtype=np.int32))
