from __future__ import annotations

import numpy as np
import pytest

from olivine.passes.quantize.sensitivity import activation_sensitivity, weight_sensitivity

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(4000, 6)).astype(np.float32) @ RANDOM.normal(size=(6, 6)).astype(np.float32)
WEIGHT = RANDOM.normal(size=(6, 3)).astype(np.float32)
POWER = np.array([1.0, 0.1, 4.0], np.float32)


def test_a_weight_error_costs_half_of_the_output_error_times_the_gradient_power() -> None:
    error = RANDOM.normal(size=(6, 3)).astype(np.float32)
    expected = 0.5 * (np.square(X @ error).mean(0) * POWER).sum()
    assert weight_sensitivity(error, X.T @ X / len(X), POWER) == pytest.approx(expected, rel=1e-4)
    assert weight_sensitivity(0 * error, X.T @ X / len(X), POWER) == 0


def test_a_rounded_activation_costs_what_its_noise_does_to_the_outputs() -> None:
    step = 0.05
    rounded = np.rint(X / step) * step
    expected = 0.5 * (np.square((X - rounded) @ WEIGHT).mean(0) * POWER).sum()
    assert activation_sensitivity(WEIGHT, step**2 / 12, POWER) == pytest.approx(expected, rel=0.05)
