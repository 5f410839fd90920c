"""BlockFormat: bits, blocks and algorithm by which a weight is stored as integers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from olivine.passes.errors import UsageError, did_you_mean

WIDTHS = (2, 4, 8)
ALGORITHMS = ("rtn", "k_quant", "gptq")
BLOCK_SIZES = (16, 32, 64, 128, 256)
#: Added to the diagonal of GPTQ's Hessian, as a share of its mean; the paper's value (arXiv 2210.17323, section 3.3).
DAMPING = 0.01


@dataclass(frozen=True)
class BlockFormat:
    """Form in which a weight is stored.

    Attributes:
        bits: width of a code: 2, 4 or 8.
        algorithm: ``rtn``, ``k_quant``, or ``gptq``, which learns from calibration text.
        block_size: weights along the input features that share a scale: 16, 32, 64, 128 or 256.
        symmetric: the zero point is fixed; k_quant always chooses one.
        damping: of the Hessian that gptq learns from, as a share of its mean diagonal.
    """

    bits: int
    algorithm: str
    block_size: int
    symmetric: bool
    damping: float = DAMPING

    def __post_init__(self) -> None:
        """Check what a request file may bring."""
        if not 0 < self.damping <= 1:
            raise UsageError(f"damping is {self.damping:g}; it is a share, above 0 and up to 1")
        for name, value, known in (
            ("bits", self.bits, WIDTHS),
            ("algorithm", self.algorithm, ALGORITHMS),
            ("block_size", self.block_size, BLOCK_SIZES),
        ):
            if value not in known:
                raise UsageError(f"unknown {name} '{value}'. {did_you_mean(value, known)}")

    @property
    def learns(self) -> bool:
        """True when its codes depend on calibration text."""
        return self.algorithm == "gptq"

    @property
    def zero_points(self) -> bool:
        """True when zero points are stored."""
        return not self.symmetric or self.algorithm == "k_quant"

    def params(self) -> dict[str, Any]:
        """Plain values, for cache keys; without a damping that is the usual one, as in caches of version 0.1.0."""
        return {name: value for name, value in asdict(self).items() if name != "damping" or value != DAMPING}
