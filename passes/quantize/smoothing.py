"""Smoothing: range of an activation's loud channels is moved into the weights that read it, before it becomes uint8.

``X W = (X diag(1/s)) (diag(s) W)``, with ``s_k = max|X_k|^a / max|W_k|^(1-a)`` (SmoothQuant, arXiv 2211.10438, eq. 4).
There, one ``a`` serves a whole model; here each activation has the one that leaves the least error in what its layers
put out, by the same account as in ``expected_loss.py``; not to smooth is among the choices.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Exponents tried.
EXPONENTS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
#: Exponent by which loud channels are divided where each token has a range.
QUIETING = 0.4
#: Codes of a quantized activation.
_STEPS = 255
_ROUNDING = 1 / 12
_LEAST = 1e-8


def smoothing_factors(weights: Sequence[np.ndarray], ranges: np.ndarray, powers: np.ndarray, top: int) -> np.ndarray:
    """Factors by which the channels of an activation are divided before it is quantized, float32 [K]; ones for none.

    Args:
        weights: of the layers that read it, float32 [K, N] each.
        ranges: lowest and highest value of each channel in each window of text, float32 [2, windows, K].
        powers: mean square of each channel, float32 [K].
        top: the largest code of a weight.
    """
    loudest = np.maximum(-ranges[0].min(axis=0), ranges[1].max(axis=0))
    heaviest = np.maximum.reduce([np.abs(weight).max(axis=1) for weight in weights])
    x, w = np.maximum(loudest, _LEAST), np.maximum(heaviest, _LEAST)
    tried = [np.ones(len(x), np.float32)]
    for exponent in EXPONENTS:
        factors = np.exp(exponent * np.log(x) - (1 - exponent) * np.log(w))
        tried.append((factors / np.exp(np.log(factors).mean())).astype(np.float32))
    errors = [sum(output_error(weight, ranges, powers, top, factors).sum() for weight in weights) for factors in tried]
    return tried[int(np.argmin(errors))]


def quieting_factors(ranges: np.ndarray) -> np.ndarray:
    """Factors for an activation with a range a token, float32 [K]; 1 for channels that are no louder than most.

    A token's range is that of its loudest channels, which are few: only they are divided, by a power of how much
    louder than the median channel they are. ``QUIETING`` lost the least on the demo model (passes/README.md).

    Args:
        ranges: as in :func:`smoothing_factors`.
    """
    loudest = np.maximum(np.maximum(-ranges[0].min(axis=0), ranges[1].max(axis=0)), _LEAST)
    factors: np.ndarray = np.maximum(loudest / np.median(loudest), 1) ** QUIETING
    return factors.astype(np.float32)


def quieted_share(powers: np.ndarray, factors: np.ndarray) -> float:
    """The share of the squared range of a token that is left, on average, when its channels are divided by factors.

    By the channels' powers, of which each token's loudest are not always the loudest; so no less than a quarter.

    Args:
        powers: mean square of each channel, float32 [K].
        factors: float32 [K].
    """
    return max(float((powers / np.square(factors)).max() / max(float(powers.max()), _LEAST)), 0.25)


def output_error(
    weight: np.ndarray, ranges: np.ndarray, powers: np.ndarray, top: int, factors: np.ndarray | None = None
) -> np.ndarray:
    """Mean squared error of each output feature when weight and activation are quantized, float64 [N].

    Rounding to multiples of a step s errs by ``s^2 / 12`` in the mean square (Bennett 1948).

    Args:
        weight: float32 [K, N].
        ranges: as above; one step serves all channels of a window.
        powers: mean square of each channel, float32 [K].
        top: the largest code of a weight, whose steps are one an output feature.
        factors: of the smoothing, float32 [K]; None for none.
    """
    if factors is not None:
        weight, ranges, powers = weight * factors[:, None], ranges / factors, powers / np.square(factors)
    return rounding_error(weight, step_power(ranges), powers, top)


def rounding_error(weight: np.ndarray, step_power: float, powers: np.ndarray, top: int) -> np.ndarray:
    """Mean squared error of each output feature when every value of the activation errs by ``step_power``.

    Args:
        weight: float32 [K, N].
        step_power: mean squared error of a value of the activation.
        powers: mean square of each channel, float32 [K].
        top: the largest code of a weight, whose steps are one an output feature.

    Returns:
        float64 [N].
    """
    steps = np.abs(weight).max(axis=0).astype(np.float64) / top
    of_weight = _ROUNDING * float(powers.sum(dtype=np.float64)) * np.square(steps)
    error: np.ndarray = of_weight + step_power * np.square(weight).sum(axis=0, dtype=np.float64)
    return error


def step_power(ranges: np.ndarray) -> float:
    """Mean squared error of rounding an activation to uint8 with one scale a window.

    Args:
        ranges: lowest and highest value of each channel in each window, float32 [2, windows, K].
    """
    spans = np.maximum(ranges[1].max(axis=1), 0) - np.minimum(ranges[0].min(axis=1), 0)
    return _ROUNDING * float(np.square(spans / _STEPS, dtype=np.float64).mean())
