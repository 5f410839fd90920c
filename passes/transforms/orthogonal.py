"""Random orthogonal matrices that are cheap to apply: randomized Hadamard (arXiv 2404.00456, section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

#: Numbers rotated at a time: half a megabyte in float64, so that the passes over them stay in a core's cache.
_AT_A_TIME = 2**16


@dataclass(frozen=True)
class RandomHadamard:
    """``Q = diag(s) (H ⊗ U)`` for ``size = 2^k m``, m odd.

    ``s`` are random signs, ``H`` is the normalized Hadamard matrix of size 2^k, ``U`` a random orthogonal
    matrix of size m. Applying it takes ``k + m`` operations a feature instead of ``size``; most are additions
    in a fixed order, so the result does not depend on how a matrix library splits its sums.

    Attributes:
        size: number of features.
        seed: of the signs and of U.
    """

    size: int
    seed: int = 0

    @cached_property
    def odd(self) -> int:
        """m, the odd part of ``size``."""
        return self.size // (self.size & -self.size)

    @cached_property
    def signs(self) -> np.ndarray:
        """s, shape [size], +1 or -1."""
        return np.random.default_rng([self.seed, 0]).choice([-1.0, 1.0], self.size)

    @cached_property
    def small(self) -> np.ndarray:
        """U, shape [m, m], uniform over orthogonal matrices (QR with R's signs; arXiv math-ph/0609050)."""
        q, r = np.linalg.qr(np.random.default_rng([self.seed, 1]).standard_normal((self.odd, self.odd)))
        return q * np.sign(np.diag(r))

    def rotate(self, x: np.ndarray) -> np.ndarray:
        """``x Q``, in float64.

        Args:
            x: shape [..., size].
        """
        rows = x.reshape(-1, self.size)
        out = np.empty(rows.shape)
        step = max(1, _AT_A_TIME // self.size)
        for start in range(0, len(rows), step):
            part = (rows[start : start + step] * self.signs).reshape(-1, self.size // self.odd, self.odd)
            out[start : start + step] = (_hadamard(part) @ self.small).reshape(-1, self.size)
        return out.reshape(x.shape)


def _hadamard(x: np.ndarray) -> np.ndarray:
    """Fast Walsh-Hadamard transform over axis 1, normalized.

    Args:
        x: float64, shape [n, 2^k, m]; overwritten.
    """
    n, length, m = x.shape
    source, target = x, np.empty_like(x)
    half = 1
    while half < length:
        pairs, sums = (t.reshape(n, length // (2 * half), 2, half, m) for t in (source, target))
        np.add(pairs[:, :, 0], pairs[:, :, 1], out=sums[:, :, 0])
        np.subtract(pairs[:, :, 0], pairs[:, :, 1], out=sums[:, :, 1])
        source, target = target, source
        half *= 2
    normalized: np.ndarray = source / length**0.5
    return normalized
