"""Kernel: one way to store a linear layer and to multiply with it."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Kernel:
    """One way to store a linear layer and to multiply with it.

    Attributes:
        bits: width of a weight: 0 float, else 2, 4 or 8.
        block_size: weights that share a scale; 0 where there are no blocks.
        accuracy_level: of MatMulNBits: 0 unset, 1 fp32, 2 fp16, 3 bf16, 4 int8; 0 where there are no blocks.
        activations: ``float`` (MatMul, MatMulNBits), ``int8`` (DynamicQuantizeLinear and MatMulIntegerToFloat) or
            ``int8 by token`` (the same between a division and a product that give each token a scale).
    """

    bits: int
    block_size: int
    accuracy_level: int
    activations: str

    def __str__(self) -> str:
        if self.integer_activations:
            return self.activations.replace("int8", "dynamic int8")
        if not self.bits:
            return "fp32"
        return f"int{self.bits} blocks of {self.block_size} at accuracy_level {self.accuracy_level}"

    @property
    def integer_activations(self) -> bool:
        """True when activations are quantized too."""
        return self.activations != "float"

    def weight_bytes(self, k: int, n: int) -> int:
        """Bytes of a weight [K, N] and its scales."""
        if not self.bits:
            return 4 * k * n
        if not self.block_size:
            return (k + 4) * n
        blocks = math.ceil(k / self.block_size)
        return n * blocks * (self.block_size * self.bits // 8 + 4)


#: A float weight: MatMul.
FLOAT = Kernel(0, 0, 0, "float")
#: int8 weights and activations.
DYNAMIC_INT8 = Kernel(8, 0, 0, "int8")
#: The same with a range a token.
DYNAMIC_INT8_BY_TOKEN = Kernel(8, 0, 0, "int8 by token")
