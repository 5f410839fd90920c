from __future__ import annotations

import numpy as np
import pytest

from olivine.passes.quantize.blocks.block_format import BLOCK_SIZES, BlockFormat
from olivine.passes.quantize.blocks.blockwise import quantize_blocks
from olivine.passes.quantize.blocks.gptq import gptq
from olivine.passes.quantize.blocks.packing import BlockCodes
from olivine.passes.quantize.expected_loss import block_ranges, gptq_power, losses_of_blocks
from olivine.passes.quantize.layer_loss import LayerLoss

RANDOM = np.random.default_rng(0)
K, N = 96, 160
X = (RANDOM.normal(size=(4000, K)) @ RANDOM.normal(size=(K, K))).astype(np.float32)
HESSIAN = X.T @ X / len(X)
WEIGHT = RANDOM.normal(size=(K, N)).astype(np.float32)
POWER = RANDOM.uniform(0.1, 2.0, N).astype(np.float32)
LOSS = LayerLoss("layers.0/o_proj", K, N, losses_of_blocks(WEIGHT, HESSIAN, POWER), {})


def quantized(form: BlockFormat) -> BlockCodes:
    return quantize_blocks(WEIGHT, form.bits, form.block_size, form.algorithm, form.symmetric)


def true_loss(stored: np.ndarray) -> float:
    return 0.5 * float((np.square(X @ (WEIGHT - stored)).mean(0) * POWER).sum())


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("block_size", [16, 32, 64])
@pytest.mark.parametrize("symmetric", [True, False])
def test_what_rounding_to_nearest_loses_is_expected(bits: int, block_size: int, symmetric: bool) -> None:
    form = BlockFormat(bits, "rtn", block_size, symmetric)
    assert LOSS.of(form) == pytest.approx(true_loss(quantized(form).dequantize()), rel=0.1)


@pytest.mark.parametrize("block_size", [16, 64])
@pytest.mark.parametrize("symmetric", [True, False])
def test_what_gptq_loses_is_expected(block_size: int, symmetric: bool) -> None:
    form = BlockFormat(4, "gptq", block_size, symmetric)
    truly = true_loss(gptq(WEIGHT, HESSIAN, 4, block_size, symmetric).dequantize())
    assert LOSS.of(form) == pytest.approx(truly, rel=0.25)
    assert truly < 0.7 * LOSS.of(BlockFormat(4, "rtn", block_size, symmetric))


def test_k_quant_gains_what_its_search_is_taken_to_gain() -> None:
    form = BlockFormat(4, "k_quant", 32, False)
    assert LOSS.of(form) == pytest.approx(true_loss(quantized(form).dequantize()), rel=0.15)


def test_four_bits_more_cost_a_289th() -> None:
    """(2^8 - 1)^2 / (2^4 - 1)^2, by the definition of the steps."""
    four, eight = (BlockFormat(bits, "rtn", 32, False) for bits in (4, 8))
    assert LOSS.of(four) / LOSS.of(eight) == pytest.approx(289)


def test_gptq_makes_good_what_later_features_can_say_too() -> None:
    independent = np.diag(RANDOM.uniform(1, 2, K)).astype(np.float32)
    assert gptq_power(independent) == pytest.approx(np.diagonal(independent), rel=0.02)  # but for the damping
    assert (gptq_power(HESSIAN) < np.diagonal(HESSIAN) * 1.02).all()
    assert gptq_power(HESSIAN).sum() < 0.5 * np.trace(HESSIAN)


def test_ranges_of_a_last_block_that_is_not_full() -> None:
    low, high = block_ranges(np.arange(10, dtype=np.float32)[:, None], 4)
    assert low.ravel().tolist() == [0, 4, 8]
    assert high.ravel().tolist() == [3, 7, 9]


def test_every_block_size_has_its_loss() -> None:
    assert {int(key.split("/")[0]) for key in LOSS.blocks} == set(BLOCK_SIZES)
    for how in ("sym/alone", "asym/alone", "sym/learned", "asym/learned"):
        by_size = [LOSS.blocks[f"{size}/{how}"] for size in BLOCK_SIZES]
        assert by_size == sorted(by_size)
