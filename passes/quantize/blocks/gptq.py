"""GPTQ: weights that are not rounded yet make good the rounding error of those that are (arXiv 2210.17323).

It minimizes the error of a layer's output on calibration text, ``|X (W - Q)|^2``, which depends on the text
through the Hessian ``X^T X`` alone. Beside the paper:

1. input features are rounded in the order of their power (diagonal of the Hessian), largest first;
2. scale and zero point of each block are fixed beforehand, from the original weights, so that the order needs no
   index of groups in the kernel ("static groups"); where the zero point is free they are searched as k-quant does, an
   error counting by the root of its input feature's power (by the power itself, blocks fit their loudest feature only);
3. what a row has to make good is computed from the Cholesky factor of the Hessian itself: rounding in order is Babai's
   nearest-plane walk (arXiv 2507.18553, theorem 3.1), which needs no inverse, and layers that read the same share it;
4. updates are delayed twice: within batches of 16 rows, which stay in the cache, and of 128, as the paper's are.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from olivine.passes.cpu import available_cores
from olivine.passes.errors import BuildFailed
from olivine.passes.quantize.blocks.block_format import DAMPING
from olivine.passes.quantize.blocks.blockwise import k_quant, rtn_asymmetric, rtn_symmetric
from olivine.passes.quantize.blocks.packing import BlockCodes

#: Rows whose errors are passed on to all later ones at once; the paper's value (section 3.3, step 2).
BATCH = 128
#: Rows whose errors are passed on to the rest of their batch at once.
SMALL_BATCH = 16
#: Output features worked on at a time: a batch of them stays in the second-level cache.
COLUMNS = 2048
#: Weights whose grid is searched at a time.
GRID_WEIGHTS = 262144


@dataclass(frozen=True)
class Job:
    """One weight to quantize; the arguments of :func:`gptq`. Jobs of one Hessian have one damping."""

    weight: np.ndarray
    hessian: np.ndarray
    bits: int
    block_size: int
    symmetric: bool
    damping: float = DAMPING


def gptq_all(jobs: Sequence[Job]) -> list[BlockCodes]:
    """The codes of every job, in order; jobs of one Hessian (the same array) together, one such group a core.

    Matrix products are small, and whole jobs side by side keep cores busier than products that are split. The
    result does not depend on the number of cores.
    """
    from threadpoolctl import threadpool_limits

    groups: dict[int, list[int]] = {}
    for index, job in enumerate(jobs):
        groups.setdefault(id(job.hessian), []).append(index)
    largest_first = sorted(groups.values(), key=lambda group: -sum(jobs[i].weight.size for i in group))
    codes: dict[int, BlockCodes] = {}
    with threadpool_limits(1), ThreadPoolExecutor(available_cores()) as pool:
        results = pool.map(lambda group: _together([jobs[i] for i in group]), largest_first)
        for group, codes_of_group in zip(largest_first, results, strict=True):
            codes |= dict(zip(group, codes_of_group, strict=True))
    return [codes[index] for index in range(len(jobs))]


def _together(jobs: Sequence[Job]) -> list[BlockCodes]:
    order, moves, _ = feedback(jobs[0].hessian, jobs[0].damping)
    importance = np.sqrt(np.diagonal(jobs[0].hessian))
    return [_codes(job.weight, importance, order, moves, job.bits, job.block_size, job.symmetric) for job in jobs]


def gptq(weight: np.ndarray, hessian: np.ndarray, bits: int, block_size: int, symmetric: bool = False) -> BlockCodes:
    """Quantize a weight in blocks along its input features so that its output changes little on calibration text.

    Args:
        weight: float [K, N].
        hessian: float32 [K, K], a positive multiple of ``X^T X`` for the layer's inputs ``X``.
        bits: 2, 4 or 8.
        block_size: weights that share a scale; K may be no multiple of it.
        symmetric: the zero point is fixed in the middle.

    Returns:
        The codes.

    Raises:
        BuildFailed: when the Hessian is not finite.
    """
    return _together([Job(weight, hessian, bits, block_size, symmetric)])[0]


def round_channels(
    weight: np.ndarray, order: np.ndarray, moves: np.ndarray, scales: np.ndarray, top: int
) -> np.ndarray:
    """The codes of a weight with one scale an output feature and no zero point.

    Args:
        weight: float32 [K, N].
        order: of the input features, and how errors move those after them, from :func:`feedback`.
        moves: float32 [K, K].
        scales: float32 [N]; 0 where a feature's weights are all zeros.
        top: the largest code.

    Returns:
        int8 [K, N], from ``-top`` to ``top``.
    """
    codes = np.empty(weight.shape, np.int8)
    for left in range(0, weight.shape[1], COLUMNS):
        columns = slice(left, left + COLUMNS)
        scale = scales[None, columns]
        inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
        ends = np.full_like(scale, top)
        grid = _Grid(scale, inverse, -ends, ends, np.zeros_like(scale))
        codes[order, columns] = _round(weight[order, columns], moves, grid, [0] * len(order))
    return codes


def _codes(
    weight: np.ndarray,
    importance: np.ndarray,
    order: np.ndarray,
    moves: np.ndarray,
    bits: int,
    block_size: int,
    symmetric: bool,
) -> BlockCodes:
    k, n = weight.shape
    blocks = -(-k // block_size)
    codes = np.empty((n, blocks * block_size), np.uint8)
    scales = np.empty((n, blocks), np.float32)
    zeros = np.empty((n, blocks), np.uint8)
    for left in range(0, n, COLUMNS):
        columns = slice(left, left + COLUMNS)
        rows = np.asarray(weight[:, columns], np.float32)
        grid = _Grid.of(rows, importance, bits, block_size, symmetric)
        steps = np.empty_like(rows)
        steps[order] = _round(rows[order], moves, grid, (order // block_size).tolist())
        zero = grid.zero[np.arange(blocks * block_size) // block_size]
        codes[columns] = zero.T  # what pads the last block stands for 0
        codes[columns, :k] = (steps + zero[:k]).T
        scales[columns], zeros[columns] = grid.scale.T, grid.zero.T
    return BlockCodes(codes.reshape(n, blocks, block_size), scales, None if symmetric else zeros, bits, k)


@dataclass(frozen=True)
class _Grid:
    """The values that weights may take: ``scale * step`` with whole steps from ``low`` to ``high``.

    All are float32 [blocks, N]; a code is a step plus ``zero``.
    """

    scale: np.ndarray
    inverse: np.ndarray
    low: np.ndarray
    high: np.ndarray
    zero: np.ndarray

    @classmethod
    def of(cls, weight: np.ndarray, importance: np.ndarray, bits: int, block_size: int, symmetric: bool) -> _Grid:
        """The grid for a weight float32 [K, N] whose input features have an importance [K].

        Round-to-nearest's where the zero point is fixed; else k-quant's, but for blocks in which the search finds no
        scale because nothing in them counts (their input features were silent): round-to-nearest's as well.
        """
        import torch

        blocks = partial(_blocks, block_size=block_size)
        grouped = torch.from_numpy(blocks(weight))
        each = torch.from_numpy(blocks(importance[:, None].astype(np.float32)))
        scale = np.empty((len(grouped), weight.shape[1]), np.float32)
        zeros = None if symmetric else np.empty_like(scale)
        depth = max(1, GRID_WEIGHTS // max(1, grouped[0].numel()))
        for top in range(0, len(grouped), depth):
            some = slice(top, top + depth)
            if symmetric:
                _, scales, zero_points = rtn_symmetric(grouped[some], bits)
            else:
                _, scales, zero_points = k_quant(grouped[some], bits, each[some].expand_as(grouped[some]))
                if (missing := scales == 0).any():
                    _, ranged, middle = rtn_asymmetric(grouped[some], bits)
                    scales[missing], zero_points[missing] = ranged[missing], middle[missing]
            scale[some] = scales.numpy()
            if zeros is not None and zero_points is not None:
                zeros[some] = zero_points.numpy()
        zero = np.full_like(scale, 2 ** (bits - 1)) if zeros is None else zeros
        inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
        return cls(scale, inverse, -zero, 2**bits - 1 - zero, zero)


def _blocks(rows: np.ndarray, block_size: int) -> np.ndarray:
    """Rows [K, n] in blocks [blocks, block_size, n]; zeros fill the last one."""
    return np.pad(rows, ((0, -len(rows) % block_size), (0, 0))).reshape(-1, block_size, rows.shape[1])


def feedback(hessian: np.ndarray, damping: float = DAMPING) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Order in which GPTQ rounds the input features of a layer, and how errors move the features after them.

    With ``H = M^T M`` and M lower triangular, the error of an output is the sum of ``(sum_j M_ij e_j)^2`` over i, and
    the i-th term vanishes where ``e_i = - sum_{j<i} M_ij / M_ii e_j``; what rounding leaves of it is ``M_ii^2`` times
    the square of the rounding error. M is the Cholesky factor of H with rows and columns reversed, transposed and
    itself reversed.

    Args:
        hessian: float32 [K, K].
        damping: added to its diagonal, as a share of the mean of that.

    Returns:
        The order of input features, int64 [K]; how far the errors of earlier ones move each one, ``M_ij / M_ii``,
        float32 [K, K]; and ``M_ii^2``, float32 [K], both in that order.

    Raises:
        BuildFailed: when the Hessian is not positive definite.
    """
    from scipy.linalg.lapack import spotrf

    power = np.diagonal(hessian).astype(np.float64)
    order = np.argsort(-power, kind="stable")
    backward = order[::-1]
    damped = hessian.take(backward, 0).take(backward, 1).astype(np.float32, copy=False).T  # symmetric: .T is its order
    # Without any input at all the features are independent of each other: rounding to nearest remains.
    damped[np.diag_indices_from(damped)] += damping * power.mean() or 1.0
    factor, failed = spotrf(damped, lower=1, clean=1, overwrite_a=1)
    if failed or not np.isfinite(factor).all():
        raise BuildFailed("gptq: the Hessian is not positive definite: it is no sum of squares, or not finite")
    m = factor.T[::-1, ::-1]
    diagonal = np.diagonal(m)
    return order, np.divide(m, diagonal[:, None], order="C"), np.square(diagonal)


def _round(rows: np.ndarray, moves: np.ndarray, grid: _Grid, blocks: Sequence[int]) -> np.ndarray:
    """Whole steps for every weight, float32 [K, N].

    Plain numpy: rows are short, so what a library adds to each call is most of what the loop costs.

    Args:
        rows: weights float32 [K, N] in the order of rounding.
        moves: float32 [K, K], see :func:`feedback`.
        grid: of these output features.
        blocks: of each row, the block that it lies in.
    """
    count = len(blocks)
    steps, errors = np.empty_like(rows), np.empty_like(rows[:BATCH])
    targets = rows.copy()  # weights, and what makes good the errors of earlier ones
    for top in range(0, count, BATCH):
        bottom = min(top + BATCH, count)
        for start in range(top, bottom, SMALL_BATCH):
            stop = min(start + SMALL_BATCH, bottom)
            for i in range(start, stop):
                target, step, error, block = targets[i], steps[i], errors[i - top], blocks[i]
                if i > start:
                    target += moves[i, start:i] @ errors[start - top : i - top]
                np.multiply(target, grid.inverse[block], out=step)
                np.rint(step, out=step)
                np.maximum(step, grid.low[block], out=step)
                np.minimum(step, grid.high[block], out=step)
                np.multiply(step, grid.scale[block], out=error)
                np.subtract(rows[i], error, out=error)
            targets[stop:bottom] += moves[stop:bottom, start:stop] @ errors[start - top : stop - top]
        targets[bottom:] += moves[bottom:, top:bottom] @ errors[: bottom - top]
    return steps
