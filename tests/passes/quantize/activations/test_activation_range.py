from __future__ import annotations

import numpy as np
import pytest

from olivine.passes.errors import UsageError
from olivine.passes.quantize.activations.activation_range import by_token, check_range, token_step_power
from olivine.passes.quantize.activations.integer_matmul import TOP, channel_codes, channel_scales
from olivine.passes.quantize.smoothing import output_error, rounding_error

RANDOM = np.random.default_rng(0)
TOKENS, K, N = 800, 64, 48
WEIGHT = RANDOM.normal(size=(K, N)).astype(np.float32)
CALM = RANDOM.normal(size=(TOKENS, K)).astype(np.float32)
#: Two channels are ten times as loud as the others, in all tokens alike.
LOUD = np.where(np.arange(K) < 2, 10 * np.sign(CALM), CALM)
#: One token in fifty is a thousand times as loud as the others, in two channels.
MASSIVE = CALM * np.where((np.arange(TOKENS) % 50 == 0)[:, None] & (np.arange(K) < 2), np.float32(1000), np.float32(1))


def tokens_of(x: np.ndarray) -> np.ndarray:
    return np.stack([np.abs(x).max(axis=1), np.square(x).mean(axis=1)])


def expected_error(x: np.ndarray) -> np.ndarray:
    return rounding_error(WEIGHT, token_step_power(tokens_of(x)), np.square(x).mean(axis=0), TOP)


def true_error(x: np.ndarray) -> np.ndarray:
    """Squared error of each token and output feature of a dynamic int8 product with one range a token."""
    stored = channel_codes(WEIGHT, TOP) * channel_scales(WEIGHT, TOP)
    steps = 2 * np.abs(x).max(axis=1, keepdims=True) / 255
    error: np.ndarray = np.square(np.rint(x / steps) * steps @ stored - x @ WEIGHT)
    return error


@pytest.mark.parametrize("x", [CALM, LOUD], ids=["calm", "loud"])
def test_the_error_of_a_product_is_foretold(x: np.ndarray) -> None:
    assert expected_error(x).shape == (N,)
    assert expected_error(x).sum() == pytest.approx(true_error(x).mean(axis=0).sum(), rel=0.15)


def test_a_few_massive_tokens_do_not_hide_what_the_others_lose() -> None:
    step_power = token_step_power(tokens_of(MASSIVE))
    steps = 2 * np.abs(CALM).max(axis=1) / 255
    assert step_power == pytest.approx(float(np.square(steps).mean()) / 12, rel=1)
    ranges = np.stack([MASSIVE.min(axis=0), MASSIVE.max(axis=0)])[:, None]
    powers = np.square(CALM).mean(axis=0)
    by_tensor = output_error(WEIGHT, ranges, powers, TOP).sum()
    assert rounding_error(WEIGHT, step_power, powers, TOP).sum() < by_tensor / 1000


def test_the_step_is_a_255th_of_twice_the_largest_value() -> None:
    tokens = np.array([[3, 1], [1, 1]], np.float32)
    assert token_step_power(tokens) == pytest.approx(((6 / 255) ** 2 + (2 / 255) ** 2) / 2 / 12)


def test_a_token_counts_by_the_inverse_of_the_power_it_has_above_the_usual() -> None:
    tokens = np.array([[1, 1, 100], [1, 1, 400]], np.float32)
    assert token_step_power(tokens) == pytest.approx((2 / 255) ** 2 * (1 + 1 + 100**2 / 400) / 3 / 12)


def test_silent_tokens_break_nothing() -> None:
    assert token_step_power(np.zeros((2, 4), np.float32)) == 0


def test_words_name_layers() -> None:
    paths = ["layers.0/qkv_proj", "layers.0/o_proj", "layers.0/gate_up_proj", "layers.11/down_proj"]
    assert [by_token(path, "token") for path in paths] == [True] * 4
    assert [by_token(path, "token_down") for path in paths] == [False, False, False, True]
    assert [by_token(path, "token_outputs") for path in paths] == [False, True, False, True]
    assert not any(by_token(path, "tensor") for path in paths)


def test_smoothing_goes_with_one_range_a_tensor() -> None:
    with pytest.raises(UsageError, match="smooth goes with activation_range tensor; found 'token'"):
        check_range("mixed", "token", smooth=True, learned=False)


def test_learned_weights_go_with_ranges_by_token() -> None:
    with pytest.raises(UsageError, match="activation_range token, token_down, token_outputs; found 'tensor'"):
        check_range("mixed", "tensor", smooth=False, learned=True)
    for word in ("token", "token_down", "token_outputs"):
        check_range("mixed", word, smooth=False, learned=True)
