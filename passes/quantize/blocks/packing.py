"""Layout of quantized weights in memory, as ONNX Runtime's MatMulNBits reads them.

A weight [K, N] (inputs, outputs) is stored transposed, in blocks of ``block_size`` along K; K is padded with
zeros to whole blocks. Codes of ``bits`` < 8 are packed low bits first. Source: ONNX Runtime's
ContribOperators.md, ``com.microsoft.MatMulNBits`` and ``com.microsoft.GatherBlockQuantized``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class BlockCodes:
    """A weight quantized in blocks: ``value = scale * (code - zero_point)``.

    Attributes:
        codes: uint8 [N, blocks, block_size], each below ``2**bits``.
        scales: float32 [N, blocks].
        zero_points: uint8 [N, blocks], or None where it is ``2**(bits - 1)`` everywhere (symmetric).
        bits: width of a code: 2, 4 or 8.
        features: K, without the padding.
    """

    codes: np.ndarray
    scales: np.ndarray
    zero_points: np.ndarray | None
    bits: int
    features: int

    def dequantize(self) -> np.ndarray:
        """The weight that the codes stand for, float32 [K, N]."""
        middle = np.full(self.scales.shape, 2 ** (self.bits - 1), np.uint8)
        zero = (middle if self.zero_points is None else self.zero_points).astype(np.float32)
        values: np.ndarray = (self.codes.astype(np.float32) - zero[:, :, None]) * self.scales[:, :, None]
        return values.reshape(len(values), -1)[:, : self.features].T

    def packed(self) -> PackedCodes:
        """The same, as the kernels read it."""
        return PackedCodes(pack_bits(self.codes, self.bits), self.scales, self._packed_zero_points())

    def _packed_zero_points(self) -> np.ndarray | None:
        if self.zero_points is None:
            return None
        per_byte = 8 // self.bits
        padding = -self.zero_points.shape[1] % per_byte
        return pack_bits(np.pad(self.zero_points, ((0, 0), (0, padding))), self.bits)


@dataclass(frozen=True)
class PackedCodes:
    """The inputs of MatMulNBits that stand for a weight.

    Attributes:
        codes: uint8 [N, blocks, block_size * bits / 8].
        scales: float32 [N, blocks].
        zero_points: uint8 [N, ceil(blocks * bits / 8)], each row padded to whole bytes; None where they are fixed.
    """

    codes: np.ndarray
    scales: np.ndarray
    zero_points: np.ndarray | None

    @classmethod
    def side_by_side(cls, parts: Sequence[PackedCodes]) -> PackedCodes:
        """The codes of weights whose output features stand side by side; all have the same input features."""
        if len(parts) == 1:
            return parts[0]
        zeros = [part.zero_points for part in parts if part.zero_points is not None]
        codes, scales = (np.concatenate([getattr(part, name) for part in parts]) for name in ("codes", "scales"))
        return cls(codes, scales, np.concatenate(zeros) if zeros else None)


def unpacked(packed: PackedCodes, bits: int, rows: slice = slice(None)) -> np.ndarray:
    """Values that packed codes stand for, padding included.

    Args:
        packed: of a weight [K, N].
        bits: width of a code.
        rows: of the output features, those that are wanted.

    Returns:
        float32 [rows, blocks * block_size].
    """
    scales = packed.scales[rows].astype(np.float32)
    codes = unpack_bits(packed.codes[rows], bits).astype(np.float32)
    if packed.zero_points is None:
        zeros = np.full(scales.shape, 2 ** (bits - 1), np.float32)
    else:
        zeros = unpack_bits(packed.zero_points[rows], bits)[:, : scales.shape[1]].astype(np.float32)
    values: np.ndarray = (codes - zeros[:, :, None]) * scales[:, :, None]
    return values.reshape(len(values), -1)


def pack_bits(codes: np.ndarray, bits: int) -> np.ndarray:
    """Pack codes along the last axis, low bits first.

    Args:
        codes: uint8 [..., n] with n a multiple of ``8 / bits``.
        bits: 2, 4 or 8.

    Returns:
        uint8 [..., n * bits / 8].
    """
    per_byte = 8 // bits
    if per_byte == 1:
        return codes
    lanes = codes.reshape(*codes.shape[:-1], -1, per_byte)
    packed = lanes[..., 0].copy()
    for lane in range(1, per_byte):
        packed |= lanes[..., lane] << np.uint8(lane * bits)
    return packed


def unpack_bits(packed: np.ndarray, bits: int) -> np.ndarray:
    """The inverse of :func:`pack_bits`: uint8 [..., n * bits / 8] -> uint8 [..., n]."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    lanes = (packed[..., None] >> shifts) & np.uint8(2**bits - 1)
    return lanes.reshape(*packed.shape[:-1], -1)
