"""Block formats: in how many bits and in which blocks a weight is stored, and how its codes are chosen."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from olivine.passes.errors import UsageError, did_you_mean

WIDTHS = (2, 4, 8)
ALGORITHMS = ("rtn", "k_quant", "gptq")
BLOCK_SIZES = (16, 32, 64, 128, 256)


@dataclass(frozen=True)
class BlockFormat:
    """How a weight is stored.

    Attributes:
        bits: width of a code: 2, 4 or 8.
        algorithm: ``rtn``, ``k_quant``, or ``gptq``, which learns from calibration text.
        block_size: weights along the input features that share a scale: 16, 32, 64, 128 or 256.
        symmetric: whether the zero point is fixed; k_quant always chooses one.
    """

    bits: int
    algorithm: str
    block_size: int
    symmetric: bool

    def __post_init__(self) -> None:
        """Check what a request file may bring."""
        for name, found, known in (
            ("bits", self.bits, WIDTHS),
            ("algorithm", self.algorithm, ALGORITHMS),
            ("block_size", self.block_size, BLOCK_SIZES),
        ):
            if found not in known:
                raise UsageError(f"unknown {name} '{found}'. {did_you_mean(found, known)}")

    @property
    def learns(self) -> bool:
        """Whether its codes depend on calibration text."""
        return self.algorithm == "gptq"

    @property
    def zero_points(self) -> bool:
        """Whether zero points are stored."""
        return not self.symmetric or self.algorithm == "k_quant"

    def params(self) -> dict[str, Any]:
        """Plain values, for cache keys."""
        return asdict(self)
