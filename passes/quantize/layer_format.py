"""Format: the form in which one linear layer is stored."""

from __future__ import annotations

from dataclasses import dataclass

from olivine.passes.quantize.blocks.block_format import BlockFormat


@dataclass(frozen=True)
class DynamicInt8:
    """int8 for the weight, one scale an output channel, and uint8 for the activation, as it comes.

    Attributes:
        top: the largest code of a weight: 127, or 63 in 7 bits.
        smooth: range is moved from the activation into the weight (``smoothing.py``).
        by_token: each token of the activation has a range of its own (``activations/row_scale.py``), not the tensor.
        learned: weights are rounded by what calibration text says (``activations/learned_weights.py``).
    """

    top: int
    smooth: bool = False
    by_token: bool = False
    learned: bool = False


#: A block format, dynamic int8, or None for float.
Format = BlockFormat | DynamicInt8 | None
