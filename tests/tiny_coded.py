"""Tiny checkpoints in the formats of quantized models, packed here by loops over columns and nibbles.

Written from the formats' documents, apart from the code that reads them: AutoAWQ's ``WQLinear_GEMM.from_linear``,
AutoGPTQ's ``QuantLinear.pack``, GPTQModel's ``convert_gptq_v2_to_v1_format``, and compressed-tensors'
``pack_to_int32``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ORDER_MAP = (0, 2, 4, 6, 1, 3, 5, 7)


@dataclass
class Codes:
    """Codes [K, N], scales and zero points [G, N], group of each input [K], and their weight float32 [N, K]."""

    codes: np.ndarray
    scales: np.ndarray
    zeros: np.ndarray
    groups: np.ndarray
    bits: int

    @property
    def weight(self) -> np.ndarray:
        steps = self.codes.astype(np.float32) - self.zeros.astype(np.float32)[self.groups]
        return np.ascontiguousarray((steps * self.scales.astype(np.float32)[self.groups]).T)


def quantized(weight: np.ndarray, bits: int, group: int, *, symmetric: bool, groups: np.ndarray | None = None) -> Codes:
    """Round to nearest of a weight [N, K]; zero points reach 0 where a group has no negative weight."""
    w, k = weight.T.astype(np.float32), weight.shape[1]
    groups = np.arange(k) // group if groups is None else groups
    top, middle = 2**bits - 1, 2 ** (bits - 1)
    scales, zeros = [], []
    for number in range(k // group):
        rows = w[groups == number]
        low, high = np.minimum(rows.min(0), 0), np.maximum(rows.max(0), 0)
        scale = np.abs(rows).max(0) / (middle - 1) if symmetric else (high - low) / top
        scale = scale.astype(np.float16)
        scales.append(scale)
        zeros.append(np.full(len(scale), middle) if symmetric else np.round(-low / scale.astype(np.float32)))
    s, z = np.stack(scales), np.clip(np.stack(zeros), 0, top).astype(np.int64)
    codes = np.clip(np.round(w / s.astype(np.float32)[groups]) + z[groups], 0, top).astype(np.int64)
    return Codes(codes, s, z, groups, bits)


def stream(values: np.ndarray, bits: int) -> np.ndarray:
    """Integers along the last axis as one row of bits, the lowest first, cut into int32: [R, n] -> [R, n*bits/32]."""
    if 32 % bits == 0:
        padded = np.pad(values, ((0, 0), (0, -values.shape[1] % (32 // bits)))).astype(np.uint32)
        words = np.zeros((len(values), padded.shape[1] * bits // 32), np.uint32)
        for place in range(32 // bits):
            words |= padded[:, place :: 32 // bits] << np.uint32(bits * place)
        return words.view(np.int32)
    rows = []
    for row in values:
        number = sum(int(value) << (bits * place) for place, value in enumerate(row))
        words = -(-len(row) * bits // 32)
        rows.append([(number >> (32 * word)) & 0xFFFFFFFF for word in range(words)])
    return np.array(rows, np.uint32).view(np.int32)


def awq(c: Codes) -> dict[str, np.ndarray]:
    def interleaved(values: np.ndarray) -> np.ndarray:
        words = np.zeros((len(values), values.shape[1] // 8), np.uint32)
        for column in range(words.shape[1]):
            for place, source in enumerate(ORDER_MAP):
                words[:, column] |= (values[:, column * 8 + source] << (4 * place)).astype(np.uint32)
        return words.view(np.int32)

    return {"qweight": interleaved(c.codes), "qzeros": interleaved(c.zeros), "scales": c.scales}


def gptq_v2(c: Codes) -> dict[str, np.ndarray]:
    return {
        "qweight": stream(c.codes.T, c.bits).T,
        "qzeros": stream(c.zeros, c.bits),
        "scales": c.scales,
        "g_idx": c.groups.astype(np.int32),
    }


def gptq_v1(c: Codes) -> dict[str, np.ndarray]:
    parts = gptq_v2(c)
    ones = {2: 0x55555555, 4: 0x11111111, 8: 0x01010101}[c.bits]
    return {**parts, "qzeros": (parts["qzeros"].view(np.uint32) - np.uint32(ones)).view(np.int32)}


def pack_quantized(c: Codes) -> dict[str, np.ndarray]:
    parts = {
        "weight_packed": stream(c.codes.T, c.bits),
        "weight_scale": c.scales.T,
        "weight_shape": np.array(c.codes.T.shape, np.int64),
    }
    if (c.zeros != 2 ** (c.bits - 1)).any():
        parts["weight_zero_point"] = stream(c.zeros, c.bits).T
    return parts


def int_quantized(c: Codes) -> dict[str, np.ndarray]:
    return {"weight": (c.codes.T - 2 ** (c.bits - 1)).astype(np.int8), "weight_scale": c.scales.T}


Packer = Callable[[Codes], dict[str, np.ndarray]]


def coded_checkpoint(
    source: Path, to: Path, pack: Packer, about: dict[str, Any], make: Callable[[str, np.ndarray], Codes | None]
) -> dict[str, np.ndarray]:
    """Write ``source`` with the linear layers that ``make`` gives codes of in a format.

    Args:
        source: a float checkpoint in one file.
        to: made.
        pack: gives the tensors of a layer.
        about: the quantization_config.
        make: name and weight [N, K] of a linear layer -> its codes, None for one that stays float.

    Returns:
        Name of every tensor of the dequantized checkpoint -> float32.
    """
    from safetensors.numpy import load_file, save_file

    shutil.copytree(source, to)
    tensors: dict[str, np.ndarray] = {}
    floats: dict[str, np.ndarray] = {}
    for name, array in load_file(source / "model.safetensors").items():
        linear = name.endswith("_proj.weight") or name == "lm_head.weight"
        codes = make(name, array) if linear else None
        floats[name] = array if codes is None else codes.weight
        if codes is None:
            tensors[name] = array
        else:
            stem = name.removesuffix(".weight")
            tensors |= {f"{stem}.{part}": np.ascontiguousarray(value) for part, value in pack(codes).items()}
    save_file(tensors, to / "model.safetensors", {"format": "pt"})
    config = json.loads((to / "config.json").read_text()) | {"quantization_config": about}
    (to / "config.json").write_text(json.dumps(config))
    return floats
