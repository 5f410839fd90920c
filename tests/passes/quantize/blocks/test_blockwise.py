from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olivine.passes.quantize.blocks.blockwise import quantize_blocks
from olivine.passes.quantize.blocks.packing import BlockCodes

FORMATS = [("rtn", True), ("rtn", False), ("k_quant", False)]
WIDTHS = st.sampled_from((2, 4, 8))
BLOCK_SIZES = st.sampled_from((16, 32, 64))


def blocks_of(weight: np.ndarray, block_size: int) -> np.ndarray:
    """[K, N] -> [N, blocks, block_size], padded with zeros: the layout of the codes."""
    features, outputs = weight.shape
    padded = np.pad(weight, ((0, -features % block_size), (0, 0)))
    return np.ascontiguousarray(padded.T).reshape(outputs, -1, block_size)


def spread(codes: BlockCodes, per_block: np.ndarray) -> np.ndarray:
    """[N, blocks] -> [K, N]: the value of each weight's block."""
    block_size = codes.codes.shape[2]
    return np.repeat(per_block, block_size, axis=1)[:, : codes.features].T


def weighted_error(weight: np.ndarray, codes: BlockCodes) -> float:
    """The error that k-quant minimizes: squared, weighted by sqrt(mean(x^2)) + |x|."""
    x = blocks_of(weight, codes.codes.shape[2]).astype(np.float64)
    importance = np.sqrt((x**2).mean(axis=2, keepdims=True)) + np.abs(x)
    error = blocks_of(weight - codes.dequantize(), codes.codes.shape[2]).astype(np.float64)
    return float((importance * error**2).sum())


@st.composite
def weights(draw: st.DrawFn) -> np.ndarray:
    features, outputs = draw(st.integers(1, 80)), draw(st.integers(1, 6))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from((1e-6, 1e-2, 1.0, 1e4)))
    offset = draw(st.sampled_from((0.0, 0.0, 3.0, -3.0)))
    return (scale * (random.normal(size=(features, outputs)) + offset)).astype(np.float32)


@settings(deadline=None)
@given(weight=weights(), bits=WIDTHS, block_size=BLOCK_SIZES)
def test_asymmetric_rounding_errs_by_half_a_step_within_its_range(
    weight: np.ndarray, bits: int, block_size: int
) -> None:
    codes = quantize_blocks(weight, bits, block_size, "rtn", False)
    step = spread(codes, codes.scales)
    # The zero point is rounded too: at the end of the range that it moves away from, codes clip by up to half
    # a step more.
    inside = (spread_codes(codes) > 0) & (spread_codes(codes) < 2**bits - 1)
    error = np.abs(weight - codes.dequantize())
    assert (error[inside] <= step[inside] * (0.5 + 1e-3)).all()
    assert (error <= step * (1.0 + 1e-3)).all()


def spread_codes(codes: BlockCodes) -> np.ndarray:
    return codes.codes.reshape(len(codes.codes), -1)[:, : codes.features].T


@settings(deadline=None)
@given(weight=weights(), bits=WIDTHS, block_size=BLOCK_SIZES)
def test_symmetric_rounding_errs_by_half_a_step_and_clips_by_one(
    weight: np.ndarray, bits: int, block_size: int
) -> None:
    codes = quantize_blocks(weight, bits, block_size, "rtn", True)
    assert codes.zero_points is None
    step = np.abs(spread(codes, codes.scales))
    error = np.abs(weight - codes.dequantize())
    unclipped = spread_codes(codes) < 2**bits - 1
    assert (error[unclipped] <= step[unclipped] * (0.5 + 1e-3)).all()
    assert (error <= step * (1.0 + 1e-3)).all()


@settings(deadline=None)
@given(weight=weights(), bits=WIDTHS, block_size=BLOCK_SIZES)
def test_symmetric_rounding_keeps_the_extreme_weight_of_a_block(weight: np.ndarray, bits: int, block_size: int) -> None:
    codes = quantize_blocks(weight, bits, block_size, "rtn", True)
    x = blocks_of(weight, block_size)
    at = np.abs(x).argmax(axis=2)[..., None]
    restored = blocks_of(codes.dequantize(), block_size)
    extreme, kept = np.take_along_axis(x, at, 2), np.take_along_axis(restored, at, 2)
    assert kept == pytest.approx(extreme, rel=1e-6)


@settings(deadline=None)
@given(weight=weights(), bits=WIDTHS, block_size=BLOCK_SIZES, form=st.sampled_from(FORMATS))
def test_codes_and_zero_points_fit_their_width(
    weight: np.ndarray, bits: int, block_size: int, form: tuple[str, bool]
) -> None:
    features, outputs = weight.shape
    codes = quantize_blocks(weight, bits, block_size, *form)
    blocks = -(-features // block_size)
    assert codes.codes.shape == (outputs, blocks, block_size)
    assert codes.scales.shape == (outputs, blocks)
    assert codes.codes.dtype == np.uint8
    assert codes.codes.max() < 2**bits
    assert np.isfinite(codes.dequantize()).all()
    if codes.zero_points is not None:
        assert codes.zero_points.shape == (outputs, blocks)
        assert codes.zero_points.max() < 2**bits


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_k_quant_is_better_than_rounding_on_random_blocks(bits: int) -> None:
    random = np.random.default_rng(0)
    for weight in (
        random.normal(size=(512, 64)),
        random.laplace(size=(512, 64)),
        random.uniform(-1, 3, (512, 64)),
    ):
        plain = quantize_blocks(weight, bits, 32, "rtn", False)
        searched = quantize_blocks(weight, bits, 32, "k_quant", False)
        assert weighted_error(weight, searched) < weighted_error(weight, plain)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), bits=WIDTHS)
def test_k_quant_is_on_average_no_worse_than_rounding(seed: int, bits: int) -> None:
    weight = np.random.default_rng(seed).normal(size=(1024, 4)).astype(np.float32)
    plain = quantize_blocks(weight, bits, 32, "rtn", False)
    searched = quantize_blocks(weight, bits, 32, "k_quant", False)
    assert weighted_error(weight, searched) <= weighted_error(weight, plain)


@pytest.mark.parametrize(("algorithm", "symmetric"), FORMATS)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_zeros_stay_zeros(algorithm: str, symmetric: bool, bits: int) -> None:
    codes = quantize_blocks(np.zeros((48, 3), np.float32), bits, 32, algorithm, symmetric)
    assert not codes.dequantize().any()
    assert np.isfinite(codes.scales).all()


@pytest.mark.parametrize(("algorithm", "symmetric"), FORMATS)
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("value", [0.37, -0.37, 1e-20, -3e8])
def test_constants_are_exact(algorithm: str, symmetric: bool, bits: int, value: float) -> None:
    weight = np.full((64, 2), value, np.float32)
    restored = quantize_blocks(weight, bits, 32, algorithm, symmetric).dequantize()
    assert restored == pytest.approx(weight, rel=1e-5)


@pytest.mark.parametrize(("algorithm", "symmetric"), FORMATS)
def test_padding_changes_no_other_weight(algorithm: str, symmetric: bool) -> None:
    """K = 40 in blocks of 32: the second block is 8 weights and 24 zeros."""
    weight = np.random.default_rng(1).normal(size=(40, 5)).astype(np.float32)
    padded = np.pad(weight, ((0, 24), (0, 0)))
    short = quantize_blocks(weight, 4, 32, algorithm, symmetric)
    long = quantize_blocks(padded, 4, 32, algorithm, symmetric)
    assert short.features == 40
    assert np.array_equal(short.packed().codes, long.packed().codes)
    assert np.array_equal(short.dequantize(), long.dequantize()[:40])


@pytest.mark.parametrize(("algorithm", "symmetric"), FORMATS)
def test_one_column_is_what_it_is_among_others(algorithm: str, symmetric: bool) -> None:
    weight = np.random.default_rng(2).normal(size=(96, 7)).astype(np.float32)
    alone = quantize_blocks(weight[:, 3:4], 4, 32, algorithm, symmetric)
    together = quantize_blocks(weight, 4, 32, algorithm, symmetric)
    # k-quant sums over a block in the order that its vector width suggests: equal but for rounding.
    assert alone.dequantize()[:, 0] == pytest.approx(together.dequantize()[:, 3], rel=1e-5)


@pytest.mark.parametrize(("algorithm", "symmetric"), FORMATS)
def test_chunks_do_not_show_in_the_result(algorithm: str, symmetric: bool) -> None:
    weight = np.random.default_rng(3).normal(size=(256, 9)).astype(np.float32)
    whole = quantize_blocks(weight, 4, 16, algorithm, symmetric)
    chunked = quantize_blocks(weight, 4, 16, algorithm, symmetric, chunk_weights=300)
    assert np.array_equal(whole.packed().codes, chunked.packed().codes)
    assert np.array_equal(whole.scales, chunked.scales)


@pytest.mark.parametrize(("algorithm", "symmetric"), FORMATS)
def test_weights_wider_than_a_slab_are_whole(algorithm: str, symmetric: bool) -> None:
    """More than 4096 columns are taken in slabs of columns."""
    weight = np.random.default_rng(4).normal(size=(32, 4100)).astype(np.float32)
    restored = quantize_blocks(weight, 8, 32, algorithm, symmetric).dequantize()
    last = quantize_blocks(weight[:, 4090:], 8, 32, algorithm, symmetric).dequantize()
    assert np.abs(restored[:, 4090:] - last).max() < 0.03  # one step: k-quant may round at the edge of a code
    assert np.abs(restored - weight).max() < 0.03


def test_the_input_is_left_alone_and_may_be_read_only() -> None:
    weight = np.random.default_rng(5).normal(size=(40, 3)).astype(np.float32)
    weight.setflags(write=False)
    before = weight.copy()
    for algorithm, symmetric in FORMATS:
        quantize_blocks(weight, 4, 32, algorithm, symmetric)
    assert np.array_equal(weight, before)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_float_types_are_taken(dtype: type) -> None:
    weight: np.ndarray = np.random.default_rng(6).normal(size=(32, 3)).astype(dtype)
    codes = quantize_blocks(weight, 8, 32, "rtn", True)
    assert codes.scales.dtype == np.float32
    assert np.abs(codes.dequantize() - weight).max() < 0.05
