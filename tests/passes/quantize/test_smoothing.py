from __future__ import annotations

import numpy as np
import pytest

from olivine.passes.quantize.activations.integer_matmul import TOP, channel_codes, channel_scales
from olivine.passes.quantize.smoothing import (
    output_error,
    quieted_share,
    quieting_factors,
    smoothing_factors,
    step_power,
)

RANDOM = np.random.default_rng(0)
WINDOWS, LENGTH, K, N = 4, 200, 64, 48
WEIGHT = RANDOM.normal(size=(K, N)).astype(np.float32)
CALM = RANDOM.normal(size=(WINDOWS, LENGTH, K)).astype(np.float32)
#: Two channels are a hundred times as loud as the others.
LOUD = CALM * np.where(np.arange(K) < 2, np.float32(100), np.float32(1))
#: Ten times as loud: one step is not yet larger than what the others say.
MILD = CALM * np.where(np.arange(K) < 2, np.float32(10), np.float32(1))


def ranges_of(x: np.ndarray) -> np.ndarray:
    return np.stack([x.min(axis=1), x.max(axis=1)])


def powers_of(x: np.ndarray) -> np.ndarray:
    power: np.ndarray = np.square(x).mean(axis=(0, 1))
    return power


def true_error(x: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Mean squared error of each output feature of a dynamic int8 product, window by window."""
    weight = WEIGHT * factors[:, None]
    stored = channel_codes(weight, TOP) * channel_scales(weight, TOP)
    errors = []
    for window in x / factors:
        step = (max(window.max(), 0) - min(window.min(), 0)) / 255
        errors.append(np.square(np.rint(window / step) * step @ stored - window @ weight).mean(axis=0))
    found: np.ndarray = np.mean(errors, axis=0)
    return found


@pytest.mark.parametrize("x", [CALM, MILD], ids=["calm", "mild"])
@pytest.mark.parametrize("factors", [np.ones(K), np.linspace(0.5, 2, K)], ids=["as it is", "smoothed"])
def test_the_error_of_a_product_is_foretold(x: np.ndarray, factors: np.ndarray) -> None:
    factors = factors.astype(np.float32)
    expected = output_error(WEIGHT, ranges_of(x), powers_of(x), TOP, factors)
    assert expected.shape == (N,)
    assert expected.sum() == pytest.approx(true_error(x, factors).sum(), rel=0.15)


def test_loud_channels_are_moved_into_the_weights() -> None:
    factors = smoothing_factors([WEIGHT], ranges_of(LOUD), powers_of(LOUD), TOP)
    assert factors.dtype == np.float32
    assert factors[:2].min() > 5 * factors[2:].max()
    assert true_error(LOUD, factors).sum() < true_error(LOUD, np.ones(K, np.float32)).sum() / 10


def test_what_gains_nothing_is_left_as_it_is() -> None:
    x = RANDOM.uniform(-1, 1, size=(WINDOWS, LENGTH, K)).astype(np.float32)
    x[:, 0], x[:, 1] = 1, -1
    weight = np.ones((K, N), np.float32)  # channels and weights that do not differ leave nothing to move
    factors = smoothing_factors([weight], ranges_of(x), powers_of(x), TOP)
    assert factors == pytest.approx(np.ones(K))


def test_all_layers_that_read_an_activation_are_weighed() -> None:
    other = WEIGHT.copy()
    other[0] *= 1000  # moving range into this channel would ruin the other layer
    alone = smoothing_factors([WEIGHT], ranges_of(LOUD), powers_of(LOUD), TOP)
    both = smoothing_factors([WEIGHT, other], ranges_of(LOUD), powers_of(LOUD), TOP)
    assert both[0] / both[1] < alone[0] / alone[1] / 5


def test_a_silent_channel_does_no_harm() -> None:
    x = LOUD.copy()
    x[..., 5] = 0
    assert np.isfinite(smoothing_factors([WEIGHT], ranges_of(x), powers_of(x), TOP)).all()


def test_the_step_is_that_of_a_whole_window() -> None:
    ranges = np.array([[[-1, 0], [0, 1]], [[1, 2], [0, 2]]], np.float32)  # spans of 3 and, zero included, 2
    assert step_power(ranges) == pytest.approx(((3 / 255) ** 2 + (2 / 255) ** 2) / 2 / 12)


def test_quieting_divides_loud_channels_alone() -> None:
    factors = quieting_factors(ranges_of(LOUD))
    assert (factors[:2] > 100**0.4 / 2).all()
    assert (factors[2:] < 1.3).all()
    assert factors.min() == 1


def test_silence_is_not_divided() -> None:
    assert np.array_equal(quieting_factors(np.zeros((2, 3, K), np.float32)), np.ones(K, np.float32))


def test_a_quieted_range_is_taken_to_shrink_no_further_than_by_half() -> None:
    powers = powers_of(LOUD)
    assert quieted_share(powers, np.ones(K, np.float32)) == 1
    assert quieted_share(powers, np.where(powers > 100, 1.5, 1).astype(np.float32)) == pytest.approx(1 / 1.5**2)
    assert quieted_share(powers, quieting_factors(ranges_of(LOUD))) == 0.25
