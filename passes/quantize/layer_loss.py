"""LayerLoss: expected cost of storing one layer, in every format (``expected_loss.py`` computes it)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from olivine.passes.quantize.blocks.block_format import BlockFormat
from olivine.passes.quantize.layer_format import DynamicInt8

#: Squared step of a searched scale, relative to that of a block's whole range: what k-quant's search gains.
SEARCHED = 0.9


@dataclass(frozen=True)
class LayerLoss:
    """Expected cost of storing one layer, in nats per token.

    Attributes:
        path: of the layer, as in :attr:`Linear.path`.
        k: input features.
        n: output features.
        blocks: ``"block size/sym|asym/learned|alone"`` -> loss if a block's whole range were one step.
        dynamic: ``"largest code of a weight"``, with ``/smooth`` where the activation is, ``/token`` where it has a
            range a token, and ``/learned`` where the weight's rounding is -> loss of dynamic int8.
    """

    path: str
    k: int
    n: int
    blocks: Mapping[str, float]
    dynamic: Mapping[str, float]

    @property
    def weights(self) -> int:
        """Number of weights."""
        return self.k * self.n

    def of(self, form: BlockFormat) -> float:
        """Expected divergence of storing the weight in ``form``."""
        key, share = _of_range(form)
        return share * self.blocks[key]

    def of_dynamic(self, form: DynamicInt8) -> float:
        """Expected divergence of dynamic int8."""
        return self.dynamic[dynamic_key(form)]

    @classmethod
    def merged(cls, path: str, parts: Sequence[LayerLoss]) -> LayerLoss:
        """Of a layer whose output features are those of ``parts``, which read the same: losses add up."""
        blocks, dynamic = (
            {key: sum(getattr(part, name)[key] for part in parts) for key in getattr(parts[0], name)}
            for name in ("blocks", "dynamic")
        )
        return cls(path, parts[0].k, sum(part.n for part in parts), blocks, dynamic)


@cache
def _of_range(form: BlockFormat) -> tuple[str, float]:
    """Key of a format's loss in :attr:`LayerLoss.blocks`, and the share of it that the format's steps leave."""
    symmetric = not form.zero_points
    levels: int = 2 ** (form.bits - 1) if symmetric else 2**form.bits - 1
    searched = SEARCHED if form.algorithm == "k_quant" or (form.learns and not symmetric) else 1.0
    return blocks_key(form.block_size, symmetric, form.learns), searched / levels**2


def dynamic_key(form: DynamicInt8) -> str:
    """Key of a format in :attr:`LayerLoss.dynamic`."""
    return f"{form.top}{'/smooth' * form.smooth}{'/token' * form.by_token}{'/learned' * form.learned}"


def blocks_key(size: int, symmetric: bool, learned: bool) -> str:
    """Key of block formats in :attr:`LayerLoss.blocks`."""
    return f"{size}/{'sym' if symmetric else 'asym'}/{'learned' if learned else 'alone'}"
