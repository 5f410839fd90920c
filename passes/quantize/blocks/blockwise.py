"""Round-to-nearest and k-quant: from float weights to codes in blocks, without data.

Weights stay in the order in which the graph stores them, [K, N], seen as [blocks, block_size, N]: a reduction over
a block then runs along contiguous columns, on all cores, in chunks that stay in the cache.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from olivine.passes.cpu import available_cores
from olivine.passes.quantize.blocks.packing import BlockCodes

if TYPE_CHECKING:
    import torch

#: Weights quantized at a time, a megabyte: fewer pay more for calls than they gain by staying near the core. k-quant
#: of the demo model takes 2.2 s with half as many, 1.6 s so, 1.5 s with twice as many and twice the memory.
CHUNK_WEIGHTS = 262144
#: Trial scales of k-quant, as offsets to the number of levels.
K_QUANT_OFFSETS = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0)


Quantizer = Callable[["torch.Tensor", int], "tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]"]


def quantize_blocks(
    weight: np.ndarray,
    bits: int,
    block_size: int,
    algorithm: str,
    symmetric: bool,
    chunk_weights: int = CHUNK_WEIGHTS,
) -> BlockCodes:
    """Quantize a weight in blocks along its input features.

    Args:
        weight: float [K, N].
        bits: 2, 4 or 8.
        block_size: weights that share a scale.
        algorithm: ``rtn`` or ``k_quant``.
        symmetric: the zero point is fixed in the middle; k_quant always chooses it.
        chunk_weights: about how many are quantized at a time.

    Returns:
        The codes; their error is ``weight - codes.dequantize()``.
    """
    import torch

    k, n = weight.shape
    blocks = -(-k // block_size)
    with warnings.catch_warnings():  # a mapped weight can't be written to, and is not: each chunk is a copy
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        rows = torch.from_numpy(np.asarray(weight, dtype=np.float32))
    if k % block_size:
        rows = torch.nn.functional.pad(rows, (0, 0, 0, blocks * block_size - k))
    grouped = rows.reshape(blocks, block_size, n)
    quantize: Quantizer = k_quant if algorithm == "k_quant" else (rtn_symmetric if symmetric else rtn_asymmetric)

    codes = torch.empty((n, blocks, block_size), dtype=torch.uint8)
    scales = torch.empty((n, blocks), dtype=torch.float32)
    zeros = None if quantize is rtn_symmetric else torch.empty((n, blocks), dtype=torch.uint8)
    width = min(n, 4096)
    depth = max(1, chunk_weights // (width * block_size))

    def run(chunk: tuple[int, int]) -> None:
        columns, block = slice(chunk[0], chunk[0] + width), slice(chunk[1], chunk[1] + depth)
        code, scale, zero = quantize(grouped[block, :, columns].clone(memory_format=torch.contiguous_format), bits)
        codes[columns, block] = code.permute(2, 0, 1)
        scales[columns, block] = scale.T
        if zeros is not None and zero is not None:
            zeros[columns, block] = zero.T

    chunks = [(left, top) for left in range(0, n, width) for top in range(0, blocks, depth)]
    with _one_thread_an_operation(), ThreadPoolExecutor(available_cores()) as pool:
        deque(pool.map(run, chunks), maxlen=0)
    return BlockCodes(codes.numpy(), scales.numpy(), None if zeros is None else zeros.numpy(), bits, k)


@contextmanager
def _one_thread_an_operation() -> Iterator[None]:
    """Chunks run side by side instead of each operation being split: no barrier after every one of thousands."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def rtn_symmetric(x: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor, None]:
    """Round to nearest with the zero point in the middle; the extreme weight takes the lowest code exactly.

    Args:
        x: float32 [blocks, block_size, N].
        bits: width of a code.

    Returns:
        Codes uint8 [blocks, block_size, N], scales float32 [blocks, N], None.
    """
    import torch

    half = 2 ** (bits - 1)
    low, high = x.amin(dim=1), x.amax(dim=1)
    scale = torch.where(-low > high, low, high) / -half
    codes = (x * _inverse(scale)[:, None]).round_().add_(half).clamp_(0, 2 * half - 1)
    return codes.to(torch.uint8), scale, None


def rtn_asymmetric(x: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Round to nearest over the range from the lowest to the highest weight, zero included.

    Shapes as in :func:`rtn_symmetric`; the third result is the zero points, uint8 [blocks, N].
    """
    import torch

    levels = 2**bits - 1
    low, high = x.amin(dim=1).clamp_(max=0), x.amax(dim=1).clamp_(min=0)
    scale = (high - low) / levels
    inverse = _inverse(scale)
    zero = (-low * inverse).round_().clamp_(0, levels)
    codes = (x * inverse[:, None]).round_().add_(zero[:, None]).clamp_(0, levels)
    return codes.to(torch.uint8), scale, zero.to(torch.uint8)


def k_quant(
    x: torch.Tensor, bits: int, importance: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Search scale and zero point of each block for the least weighted squared error.

    Where ``importance`` (as ``x``) does not say how much an error counts, large weights matter more: it is weighted by
    ``sqrt(mean(x^2)) + |x|``. For each trial scale the best scale
    for its codes is a least-squares fit, taken with the zero point already rounded to a code, as the kernel sees it.
    The idea is llama.cpp's ``make_qkx2_quants`` (ggml-quants.c). Shapes as in :func:`rtn_asymmetric`.
    """
    import torch

    levels = 2**bits - 1
    if importance is None:
        importance = x.abs().add_(x.square().mean(dim=1, keepdim=True).sqrt_())
    weighted = importance * x
    low, high = x.amin(dim=1).clamp_(max=0), x.amax(dim=1).clamp_(min=0)
    span = _inverse(high - low)

    gain = torch.zeros_like(span)
    scale, zero = torch.zeros_like(span), torch.zeros_like(span)
    steps, product = torch.empty_like(x), torch.empty_like(x)
    for offset in K_QUANT_OFFSETS:
        inverse = span * (levels + offset)
        shift = (-low * inverse).round_().clamp_(0, levels)
        torch.mul(x, inverse[:, None], out=steps)
        torch.clamp(steps.round_(), -shift[:, None], (levels - shift)[:, None], out=steps)
        # With codes fixed, scale = sum(w x q) / sum(w q^2) lowers the error by sum(w x q)^2 / sum(w q^2).
        cross = torch.mul(weighted, steps, out=product).sum(dim=1)
        square = torch.mul(importance, steps.square_(), out=product).sum(dim=1)
        fit = cross * _inverse(square)
        better = cross * fit > gain
        gain = torch.where(better, cross * fit, gain)
        scale = torch.where(better, fit, scale)
        zero = torch.where(better, shift, zero)
    codes = (x * _inverse(scale)[:, None]).round_().add_(zero[:, None]).clamp_(0, levels)
    return codes.to(torch.uint8), scale, zero.to(torch.uint8)


def _inverse(x: torch.Tensor) -> torch.Tensor:
    """1 / x, and 0 where x is 0: a block of zeros has scale 0 and takes any code."""
    import torch

    return torch.where(x == 0, 0.0, 1.0 / x)
