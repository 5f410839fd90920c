"""Ranges of quantized activations: which layers have one a token, and the rounding error that such ranges leave."""

from __future__ import annotations

import re

import numpy as np

from olivine.passes.errors import UsageError, did_you_mean

#: Word of the axis ``activation_range`` -> the paths of the layers whose activations have one range a token.
TOKEN_RANGES = {
    "tensor": "",
    "token": r".*",
    "token_down": r"layers\.\d+/down_proj",
    "token_outputs": r"layers\.\d+/(o|down)_proj",
}
#: Codes of a quantized activation.
_STEPS = 255
_ROUNDING = 1 / 12


def check_range(name: str, activation_range: str, smooth: bool, learned: bool) -> None:
    """Refuse an unknown word, and what does not go with it, on behalf of the pass ``name``.

    Raises:
        UsageError: with the words that there are.
    """
    if activation_range not in TOKEN_RANGES:
        known = did_you_mean(activation_range, list(TOKEN_RANGES))
        raise UsageError(f"{name}: unknown activation_range '{activation_range}'. {known}")
    if smooth and activation_range != "tensor":
        raise UsageError(f"{name}: smooth goes with activation_range tensor; found '{activation_range}'")
    if learned and activation_range == "tensor":
        words = ", ".join(sorted(set(TOKEN_RANGES) - {"tensor"}))
        raise UsageError(f"{name}: learned weights go with activation_range {words}; found 'tensor'")


def by_token(path: str, activation_range: str) -> bool:
    """True when a word of the axis ``activation_range`` gives each token that a layer reads a range of its own."""
    return re.fullmatch(TOKEN_RANGES[activation_range], path) is not None


def token_step_power(tokens: np.ndarray) -> float:
    """Mean squared error of rounding an activation to uint8 with one scale a token (``row_scale.py``).

    A range is as wide as the token's largest magnitude to both sides. Rounding to multiples of a step s errs by
    ``s^2 / 12`` in the mean square (Bennett 1948). A few tokens, the first of a text above all, are a thousand times
    as loud as the others (massive activations, arXiv 2402.17762). What layers put out for them is as loud, and the
    norm that follows divides by it: tokens that are louder than most count by the inverse of their power.

    Args:
        tokens: largest magnitude and mean square of each token's values, float32 [2, tokens].
    """
    largest, power = tokens.astype(np.float64)
    usual = np.median(power)
    weights = np.divide(usual, power, out=np.ones_like(power), where=power > usual)
    return _ROUNDING * float((weights * np.square(2 * largest / _STEPS)).mean())
