from __future__ import annotations

import math

import numpy as np
import pytest

from olivine.evaluators.process.servers.graph import cosine, divergence


def test_the_cosine_is_taken_an_item_at_a_time() -> None:
    base = np.array([[1.0, 0.0], [3.0, 4.0]])
    own = np.array([[1.0, 1.0], [6.0, 8.0]])
    assert cosine(base, own) == pytest.approx((1 / math.sqrt(2) + 1) / 2)


def test_the_cosine_of_nothing_is_that_of_nothing_only() -> None:
    nothing, something = np.zeros((1, 3)), np.ones((1, 3))
    assert cosine(nothing, nothing) == 1
    assert cosine(nothing, something) == 0


def test_the_divergence_is_that_of_the_distributions() -> None:
    base, own = np.log([[0.5, 0.5], [0.9, 0.1]]), np.log([[0.25, 0.75], [0.9, 0.1]]) + 3
    kl, agree = divergence(base, own)
    assert kl == pytest.approx((0.5 * math.log(2) + 0.5 * math.log(0.5 / 0.75)) / 2)
    assert agree == 0.5
    assert divergence(base, base) == (0.0, 1.0)


def test_one_logit_is_of_yes_or_no_and_so_is_each_label_of_several() -> None:
    base, own = np.array([[0.0], [2.0]]), np.array([[math.log(3)], [2.0]])
    kl, agree = divergence(base, own)
    assert kl == pytest.approx((0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)) / 2)
    assert agree == 0.5
    several = divergence(base.reshape(1, 2), own.reshape(1, 2), apart=True)
    assert several == pytest.approx((kl, agree))


def test_an_item_of_one_value_is_compared_by_its_size() -> None:
    assert cosine(np.array([[4.0]]), np.array([[3.0]])) == pytest.approx(0.75)
    assert cosine(np.array([[4.0]]), np.array([[-4.0]])) == -1
