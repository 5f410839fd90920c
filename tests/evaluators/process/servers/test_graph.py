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
