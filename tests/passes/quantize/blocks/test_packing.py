from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from olivine.passes.quantize.blocks.packing import BlockCodes, pack_bits, unpack_bits

WIDTHS = st.sampled_from((2, 4, 8))


def random_codes(seed: int, bits: int, features: int, outputs: int, block_size: int, symmetric: bool) -> BlockCodes:
    random = np.random.default_rng(seed)
    blocks = -(-features // block_size)
    top = 2**bits
    return BlockCodes(
        codes=random.integers(0, top, (outputs, blocks, block_size), dtype=np.uint8),
        scales=random.normal(size=(outputs, blocks)).astype(np.float32),
        zero_points=None if symmetric else random.integers(0, top, (outputs, blocks), dtype=np.uint8),
        bits=bits,
        features=features,
    )


@given(bits=WIDTHS, groups=st.integers(1, 9), rows=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_unpacking_gives_back_what_was_packed(bits: int, groups: int, rows: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 2**bits, (rows, groups * 8 // bits), dtype=np.uint8)
    packed = pack_bits(codes, bits)
    assert packed.dtype == np.uint8
    assert packed.shape == (rows, groups)
    assert np.array_equal(unpack_bits(packed, bits), codes)


@given(bits=WIDTHS, data=st.binary(min_size=1, max_size=40))
def test_packing_gives_back_what_was_unpacked(bits: int, data: bytes) -> None:
    packed = np.frombuffer(data, dtype=np.uint8)
    assert np.array_equal(pack_bits(unpack_bits(packed, bits), bits), packed)


@pytest.mark.parametrize(
    ("bits", "codes", "byte"),
    [(8, [0xA7], 0xA7), (4, [0x7, 0xA], 0xA7), (2, [3, 1, 2, 2], 0b10_10_01_11)],
)
def test_the_first_code_takes_the_low_bits(bits: int, codes: list[int], byte: int) -> None:
    assert pack_bits(np.array(codes, np.uint8), bits).tolist() == [byte]


def test_packing_leaves_its_input_alone() -> None:
    codes = np.arange(16, dtype=np.uint8)
    before = codes.copy()
    pack_bits(codes, 4)
    assert np.array_equal(codes, before)


@given(
    seed=st.integers(0, 2**32 - 1),
    bits=WIDTHS,
    features=st.integers(1, 70),
    outputs=st.integers(1, 4),
    block_size=st.sampled_from((16, 32)),
    symmetric=st.booleans(),
)
def test_dequantize_is_the_definition_written_as_a_loop(
    seed: int, bits: int, features: int, outputs: int, block_size: int, symmetric: bool
) -> None:
    codes = random_codes(seed, bits, features, outputs, block_size, symmetric)
    expected = np.empty((features, outputs), np.float32)
    for k in range(features):
        for n in range(outputs):
            block = k // block_size
            zero = 2 ** (bits - 1) if codes.zero_points is None else int(codes.zero_points[n, block])
            expected[k, n] = codes.scales[n, block] * np.float32(int(codes.codes[n, block, k % block_size]) - zero)
    assert np.array_equal(codes.dequantize(), expected)


@given(seed=st.integers(0, 2**32 - 1), bits=WIDTHS, blocks=st.integers(1, 9), outputs=st.integers(1, 4))
def test_each_row_of_zero_points_is_padded_to_whole_bytes(seed: int, bits: int, blocks: int, outputs: int) -> None:
    codes = random_codes(seed, bits, blocks * 16, outputs, 16, symmetric=False)
    packed = codes.packed().zero_points
    assert packed is not None
    assert packed.shape == (outputs, -(-blocks * bits // 8))
    unpacked = unpack_bits(packed, bits)
    assert unpacked[:, :blocks].tolist() == np.asarray(codes.zero_points).tolist()
    assert not unpacked[:, blocks:].any()


def test_symmetric_codes_have_no_zero_points() -> None:
    assert random_codes(0, 4, 32, 2, 16, symmetric=True).packed().zero_points is None


@given(seed=st.integers(0, 2**32 - 1), bits=WIDTHS, features=st.integers(1, 70))
def test_packed_codes_have_the_shape_of_input_b(seed: int, bits: int, features: int) -> None:
    codes = random_codes(seed, bits, features, 3, 32, symmetric=True)
    packed = codes.packed().codes
    assert packed.shape == (3, -(-features // 32), 32 * bits // 8)
    assert np.array_equal(unpack_bits(packed, bits), codes.codes)
