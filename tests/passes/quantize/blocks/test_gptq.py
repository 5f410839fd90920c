from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olivine.passes.errors import BuildFailed
from olivine.passes.quantize.blocks.blockwise import quantize_blocks
from olivine.passes.quantize.blocks.gptq import DAMPING, Job, gptq, gptq_all
from olivine.passes.quantize.blocks.packing import BlockCodes


def inputs(features: int, seed: int = 0, rows: int = 512) -> np.ndarray:
    """Correlated activations with a few strong features, float32 [rows, features]."""
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(rows, features)) @ random.normal(size=(features, features)) / features**0.5
    return (mixed * random.lognormal(sigma=1.0, size=features)).astype(np.float32)


def hessian(x: np.ndarray) -> np.ndarray:
    return x.T @ x / np.float32(len(x))


def output_error(x: np.ndarray, weight: np.ndarray, codes: BlockCodes) -> float:
    return float(np.square(x @ (weight - codes.dequantize())).mean())


def same(a: BlockCodes, b: BlockCodes) -> bool:
    zeros = (a.zero_points is None) == (b.zero_points is None)
    if a.zero_points is not None and b.zero_points is not None:
        zeros = np.array_equal(a.zero_points, b.zero_points)
    return zeros and np.array_equal(a.codes, b.codes) and np.array_equal(a.scales, b.scales)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("features", [32, 80, 300])
def test_independent_inputs_leave_rounding_to_nearest(bits: int, symmetric: bool, features: int) -> None:
    weight = np.random.default_rng(1).normal(size=(features, 7)).astype(np.float32)
    found = gptq(weight, 3 * np.eye(features, dtype=np.float32), bits, 32, symmetric)
    if symmetric:
        assert same(found, quantize_blocks(weight, bits, 32, "rtn", symmetric))
    else:
        assert found.zero_points is not None
        scale, zero = (np.repeat(x, 32, axis=1)[:, :features].T for x in (found.scales, found.zero_points))
        nearest = np.clip(np.rint(weight / scale) + zero, 0, 2**bits - 1)
        assert np.array_equal(found.codes.reshape(7, -1)[:, :features].T, nearest)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("bits", "share"), [(2, 0.9), (4, 0.6), (8, 0.6)])
@pytest.mark.parametrize(("features", "block_size"), [(64, 16), (200, 32), (300, 128)])
def test_the_output_error_is_below_that_of_rounding_to_nearest(
    bits: int, share: float, symmetric: bool, features: int, block_size: int
) -> None:
    x = inputs(features)
    weight = np.random.default_rng(2).normal(size=(features, 24)).astype(np.float32)
    found = gptq(weight, hessian(x), bits, block_size, symmetric)
    nearest = quantize_blocks(weight, bits, block_size, "rtn", symmetric)
    assert output_error(x, weight, found) < share * output_error(x, weight, nearest)
    assert np.array_equal(found.scales, nearest.scales) == symmetric


def test_scales_are_searched_by_what_counts_on_the_inputs() -> None:
    """Plain rounding on the grid that was found is better than on that of the range, weighted by the inputs."""
    x = inputs(256)
    weight = np.random.default_rng(3).standard_t(4, size=(256, 40)).astype(np.float32)
    found = gptq(weight, hessian(x), 4, 32)
    assert found.zero_points is not None
    scale, zero = (np.repeat(part, 32, axis=1).T for part in (found.scales, found.zero_points))
    rounded = (np.clip(np.rint(weight / scale) + zero, 0, 15) - zero) * scale
    ranged = quantize_blocks(weight, 4, 32, "rtn", False).dequantize()
    importance = np.sqrt(np.diagonal(hessian(x)))[:, None]
    assert (importance * np.square(weight - rounded)).sum() < 0.95 * (importance * np.square(weight - ranged)).sum()


def test_two_features_by_hand() -> None:
    """The stronger feature is rounded first; its error moves the other by H_01 / (H_00 + damping)."""
    h = np.array([[1.0, 0.9], [0.9, 2.0]], np.float32)
    weight = np.array([[0.52], [-1.0]], np.float32)
    weight = np.vstack([weight, [[0.5]], np.zeros((13, 1), np.float32)]).astype(np.float32)
    full = np.eye(16, dtype=np.float32)
    full[:2, :2] = h
    full[2, 2] = 3.0
    # Symmetric 4 bits: the extreme weight -1 takes code 0 exactly, so scale = 1 / 8.
    found = gptq(weight, full, 4, 16, symmetric=True)
    assert found.scales.tolist() == [[0.125]]
    # Order: feature 2 (0.5 = 4 steps, no error), 1 (-1 = -8 steps, no error), 0 (0.52 = 4.16 steps).
    assert found.codes[0, 0, :3].tolist() == [12, 0, 12]

    weight[1] = -0.945  # -7.56 steps; the extreme is elsewhere
    weight[3] = -1.0
    found = gptq(weight, full, 4, 16, symmetric=True)
    damping = DAMPING * np.trace(full) / 16
    error = -0.945 + 8 * 0.125
    moved = 0.52 + error * 0.9 / (1.0 + damping)
    assert found.codes[0, 0, 1] == 0
    assert found.codes[0, 0, 0] == 8 + round(moved / 0.125) == 13
    assert round(0.52 / 0.125) == 4  # what rounding to nearest would have taken


def test_the_answer_is_that_of_the_paper_one_column_at_a_time() -> None:
    """Against equations 2 and 3 of arXiv 2210.17323 done literally: remove a feature, invert what is left."""
    features, outputs = 150, 5
    x = inputs(features, seed=4)
    weight = np.random.default_rng(4).normal(size=(features, outputs)).astype(np.float32)
    h = hessian(x)
    found = gptq(weight, h, 4, 32)
    assert found.zero_points is not None
    left = h.astype(np.float64) + DAMPING * np.diagonal(h).mean() * np.eye(features)
    w = weight.astype(np.float64)
    order = list(np.argsort(-np.diagonal(h), kind="stable"))
    expected = np.zeros((features, outputs))
    while order:
        i = order[0]
        scale, zero = found.scales[:, i // 32], found.zero_points[:, i // 32].astype(float)
        step = np.clip(np.rint(w[i] / scale), -zero, 15 - zero)
        expected[i] = step * scale
        inverse = np.linalg.inv(left[np.ix_(order, order)])
        w[order[1:]] -= np.outer(inverse[1:, 0] / inverse[0, 0], w[i] - expected[i])
        order = order[1:]
    assert np.mean(np.abs(found.dequantize() - expected) > 1e-4) < 0.02  # ties in float32 may fall the other way


@settings(max_examples=25, deadline=None)
@given(
    features=st.integers(1, 70),
    outputs=st.integers(1, 9),
    bits=st.sampled_from([2, 4, 8]),
    block_size=st.sampled_from([16, 32, 64]),
    symmetric=st.booleans(),
    seed=st.integers(0, 99),
)
def test_codes_are_valid_whatever_the_shape(
    features: int, outputs: int, bits: int, block_size: int, symmetric: bool, seed: int
) -> None:
    x = inputs(features, seed, rows=20)
    weight = np.random.default_rng(seed).normal(size=(features, outputs)).astype(np.float32)
    found = gptq(weight, hessian(x), bits, block_size, symmetric)
    assert found.codes.shape == (outputs, -(-features // block_size), block_size)
    assert found.codes.max() < 2**bits
    assert found.dequantize().shape == (features, outputs)
    padding = found.codes.reshape(outputs, -1)[:, features:]
    zero = 2 ** (bits - 1) if found.zero_points is None else found.zero_points[:, -1:]
    assert (padding == zero).all()


def test_inputs_that_are_always_zero_do_no_harm() -> None:
    x = inputs(64)
    x[:, ::3] = 0
    weight = np.random.default_rng(5).normal(size=(64, 6)).astype(np.float32)
    nearest = quantize_blocks(weight, 4, 32, "rtn", False)
    assert output_error(x, weight, gptq(weight, hessian(x), 4, 32)) < output_error(x, weight, nearest)
    assert same(gptq(weight, np.zeros((64, 64), np.float32), 4, 32), nearest)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_block_whose_inputs_were_all_silent_is_rounded_to_nearest_and_other_scales_stay(bits: int) -> None:
    """A feature that calibration text does not use may matter on other text."""
    x = inputs(96)
    x[:, 32:64] = 0
    weight = np.random.default_rng(7).normal(size=(96, 6)).astype(np.float32)
    found = gptq(weight, hessian(x), bits, 32)
    nearest = quantize_blocks(weight, bits, 32, "rtn", False)
    np.testing.assert_array_equal(found.dequantize()[32:64], nearest.dequantize()[32:64])
    heard = np.r_[:32, 64:96]
    alone = gptq(weight[heard], hessian(x[:, heard]), bits, 32)
    np.testing.assert_array_equal(found.scales[:, [0, 2]], alone.scales)


def test_a_hessian_that_is_none_is_refused() -> None:
    weight = np.ones((16, 2), np.float32)
    for wrong in (np.full((16, 16), np.nan, np.float32), -np.eye(16, dtype=np.float32)):
        with pytest.raises(BuildFailed, match="not positive definite"):
            gptq(weight, wrong, 4, 16)


def test_many_jobs_keep_their_order_and_the_inputs_stay_unchanged() -> None:
    random = np.random.default_rng(6)
    weights = [random.normal(size=(48, n)).astype(np.float32) for n in (3, 40, 7)]
    h = hessian(inputs(48))
    before = [weight.copy() for weight in weights], h.copy()
    found = gptq_all([Job(weight, h, 4, 16, False) for weight in weights])
    for weight, codes in zip(weights, found, strict=True):
        assert same(codes, gptq(weight, h, 4, 16))
    assert all(np.array_equal(a, b) for a, b in zip(weights, before[0], strict=True))
    assert np.array_equal(h, before[1])
