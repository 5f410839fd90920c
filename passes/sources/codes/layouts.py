"""The layouts of codes in checkpoints: from the tensors of one layer to its :class:`CodedWeight`.

K are input, N output features, G groups along K. All pack low bits first into int32.

* ``awq``: qweight [K, N/8] and qzeros [G, N/8], columns interleaved as 0 2 4 6 1 3 5 7; scales [G, N]
  (AutoAWQ, ``awq/modules/linear/gemm.py``).
* ``gptq``: qweight [K*bits/32, N] packed along K; qzeros [G, N*bits/32], less by one; scales [G, N]; g_idx [K], the
  group of each input (AutoGPTQ, ``qlinear_cuda_old.py``). The difference is taken from whole words, as GPTQModel does
  (``convert_gptq_v1_to_v2_format_module``), so that a zero point of 0 comes back. ``gptq_v2`` stores them as they are.
* ``pack``: weight_packed [N, K*bits/32], code = value + 2^(bits-1); weight_scale [N, G]; weight_zero_point
  [N*bits/32, G]; weight_shape; weight_g_idx [K] (compressed-tensors, ``compressors/pack_quantized``).
* ``int``: weight int8 [N, K], weight_scale [N, G or 1], weight_zero_point alike (``compressors/naive_quantized``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from olivine.passes.sources.codes.coded_weight import CodedWeight
from olivine.passes.sources.codes.scheme import Layout

Tensors = Mapping[str, np.ndarray]
#: Position of a nibble in an AWQ word -> the column that it holds.
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
_WORD = 32
#: Ending of the tensor that tells a coded layer, by layout.
MARKS: Mapping[Layout, str] = {
    "awq": "qweight",
    "gptq": "qweight",
    "gptq_v2": "qweight",
    "pack": "weight_packed",
    "int": "weight_scale",
}
#: Endings of all tensors that a coded layer may have, by layout.
PARTS: Mapping[Layout, tuple[str, ...]] = {
    "awq": ("qweight", "qzeros", "scales"),
    "gptq": ("qweight", "qzeros", "scales", "g_idx"),
    "gptq_v2": ("qweight", "qzeros", "scales", "g_idx"),
    "pack": ("weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx"),
    "int": ("weight", "weight_scale", "weight_zero_point"),
}
#: Those of them that it may lack.
OPTIONAL = frozenset({"g_idx", "weight_zero_point", "weight_g_idx"})


class WrongCodes(ValueError):
    """The tensors of a layer do not fit each other; the message names the tensor by its ending."""


def decode(layout: Layout, tensors: Tensors, bits: int) -> CodedWeight:
    """The codes of one layer.

    Args:
        layout: of its tensors.
        tensors: ending -> array, such as ``qweight``; scales in float32.
        bits: that the config states; 0 where it does not. The shapes of gptq's tensors tell it themselves.

    Raises:
        WrongCodes: when a tensor is missing, or has a shape that does not fit the others.
    """
    if missing := [name for name in PARTS[layout] if name not in tensors and name not in OPTIONAL]:
        raise WrongCodes(f"{missing[0]} is missing")
    decoders: Mapping[str, Callable[[Tensors, int], CodedWeight]] = {
        "awq": _awq,
        "gptq": _gptq,
        "gptq_v2": _gptq_v2,
        "pack": _pack,
        "int": _int,
    }
    try:
        return decoders[layout](tensors, bits)
    except (IndexError, TypeError, ValueError) as error:
        if isinstance(error, WrongCodes):
            raise
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in tensors.items())
        raise WrongCodes(f"{MARKS[layout]} does not fit the layer's other tensors ({shapes})") from error


def unpack_words(words: np.ndarray, bits: int) -> np.ndarray:
    """Codes along the last axis of int32 words, low bits first: [..., n] -> uint8 [..., n*32/bits]."""
    flat = np.ascontiguousarray(words).astype("<u4").view(np.uint8)
    single = np.unpackbits(flat, axis=-1, bitorder="little")
    count = single.shape[-1] // bits
    lanes = single[..., : count * bits].reshape(*single.shape[:-1], count, bits)
    codes: np.ndarray = np.packbits(lanes, axis=-1, bitorder="little")[..., 0]
    return codes


def _awq(tensors: Tensors, _: int) -> CodedWeight:
    qweight, qzeros, scales = tensors["qweight"], tensors["qzeros"], tensors["scales"]
    k, n, groups = qweight.shape[0], qweight.shape[1] * 8, len(scales)
    _expect("qzeros", qzeros, (groups, n // 8))
    _expect("scales", scales, (groups, n))
    return CodedWeight(
        _deinterleaved(qweight).T.copy(),
        scales.T.copy(),
        _deinterleaved(qzeros).T.copy(),
        4,
        _group(k, groups, "scales"),
    )


def _deinterleaved(words: np.ndarray) -> np.ndarray:
    lanes = unpack_words(words, 4).reshape(len(words), -1, 8)
    columns = np.empty_like(lanes)
    columns[..., _AWQ_ORDER] = lanes
    return columns.reshape(len(words), -1)


def _gptq(tensors: Tensors, bits: int) -> CodedWeight:
    qzeros = tensors["qzeros"]
    width = _gptq_bits(tensors)
    if width in (2, 4, 8):
        ones = sum(1 << shift for shift in range(0, _WORD, width))
        later = qzeros.astype("<u4", copy=True) + np.uint32(ones)
        return _gptq_v2({**tensors, "qzeros": later}, bits)
    return _gptq_v2(tensors, bits, less=1)


def _gptq_v2(tensors: Tensors, _: int, less: int = 0) -> CodedWeight:
    qweight, scales = tensors["qweight"], tensors["scales"]
    bits, (groups, n) = _gptq_bits(tensors), scales.shape
    codes = unpack_words(qweight.T, bits)
    zeros = (unpack_words(tensors["qzeros"], bits) + np.uint8(less)) & np.uint8(2**bits - 1)
    k = codes.shape[1]
    _expect("qzeros", zeros, (groups, n))
    return _ordered(codes, scales.T, zeros.T, bits, tensors.get("g_idx"), "g_idx", _group(k, groups, "scales"))


def _gptq_bits(tensors: Tensors) -> int:
    """Width by the shapes of zero points: a model may have several."""
    n, words = tensors["qweight"].shape[1], tensors["qzeros"].shape[-1]
    if tensors["scales"].ndim != 2 or tensors["scales"].shape[1] != n:
        raise WrongCodes(f"scales has the shape {list(tensors['scales'].shape)}; qweight has {n} columns")
    bits = int(words) * _WORD // int(n)
    if words * _WORD != bits * n or not 2 <= bits <= 8:
        raise WrongCodes(f"qzeros has {words} words for {n} columns, which is no whole number of bits")
    return bits


def _pack(tensors: Tensors, bits: int) -> CodedWeight:
    packed, scales = tensors["weight_packed"], tensors["weight_scale"]
    n, k = (int(size) for size in tensors["weight_shape"].reshape(-1))
    fits = [width for width in range(2, 9) if -(-k * width // _WORD) == packed.shape[1]]
    if len(packed) != n or not fits:
        raise WrongCodes(f"weight_packed has the shape {list(packed.shape)}, weight_shape says [{n}, {k}]")
    bits = bits if bits in fits else fits[0]
    codes = unpack_words(packed, bits)[:, :k]
    groups = scales.shape[-1]
    _expect("weight_scale", scales, (n, groups))
    zeros = np.full((n, groups), 2 ** (bits - 1), np.uint8)
    if "weight_zero_point" in tensors:
        zeros = unpack_words(tensors["weight_zero_point"].T, bits).T[:n]
        _expect("weight_zero_point", zeros, (n, groups))
    group = _group(k, groups, "weight_scale")
    return _ordered(codes, scales, zeros, bits, tensors.get("weight_g_idx"), "weight_g_idx", group)


def _int(tensors: Tensors, bits: int) -> CodedWeight:
    weight, scales = tensors["weight"], tensors["weight_scale"]
    if weight.dtype != np.int8 or weight.ndim != 2:
        raise WrongCodes(f"weight is {weight.dtype} {list(weight.shape)}, not int8 of two dimensions")
    n, k = weight.shape
    scales = scales.reshape(len(scales), -1) if scales.size > 1 else np.full((n, 1), scales.reshape(-1)[0], np.float32)
    _expect("weight_scale", scales, (n, scales.shape[1]))
    width = 4 if bits == 4 else 8
    middle = 2 ** (width - 1)
    zeros = np.full(scales.shape, middle, np.uint8)
    if "weight_zero_point" in tensors:
        signed = tensors["weight_zero_point"].astype(np.int16)
        signed = signed.reshape(len(signed), -1) if signed.size > 1 else np.full(scales.shape, signed.reshape(-1)[0])
        _expect("weight_zero_point", signed, scales.shape)
        zeros = (signed + middle).astype(np.uint8)
    codes = (weight.astype(np.int16) + middle).astype(np.uint8)
    return CodedWeight(codes, scales, zeros, width, _group(k, scales.shape[1], "weight_scale"))


def _ordered(
    codes: np.ndarray,
    scales: np.ndarray,
    zeros: np.ndarray,
    bits: int,
    groups_of: np.ndarray | None,
    name: str,
    group: int,
) -> CodedWeight:
    """Codes with their columns in the order of their groups."""
    k, order = codes.shape[1], None
    if groups_of is not None:
        _expect(name, groups_of, (k,))
        usual = np.arange(k) // group
        if not np.array_equal(groups_of, usual):
            order = np.argsort(groups_of, kind="stable").astype(np.int64)
            if not np.array_equal(groups_of[order], usual):
                raise WrongCodes(f"{name} does not give {group} inputs to each of {k // group} groups")
            codes = codes[:, order]
    return CodedWeight(
        np.ascontiguousarray(codes), np.ascontiguousarray(scales), np.ascontiguousarray(zeros), bits, group, order
    )


def _group(k: int, groups: int, name: str) -> int:
    if groups < 1 or k % groups:
        raise WrongCodes(f"{name} has {groups} groups, which do not divide {k} inputs")
    return k // groups


def _expect(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise WrongCodes(f"{name} has the shape {list(array.shape)}; {list(shape)} fits the other tensors")
