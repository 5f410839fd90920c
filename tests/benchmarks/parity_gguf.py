"""GGUF files of every tensor type that the gguf package reads, and the checkpoint that each of them stands for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file, save_file
from tiny_gguf import tiny_gguf

#: Blocks of codes are drawn until their values look like weights.
_LARGEST, _SMALLEST = 0.5, 1e-3
_DRAWN = 4096


def readable_types() -> Iterator[gguf.GGMLQuantizationType]:
    """Types of weights that gguf turns into floats."""
    for kind in gguf.GGMLQuantizationType:
        if kind.name.startswith(("I8", "I16", "I32", "I64", "F64")):
            continue
        block, size = gguf.GGML_QUANT_SIZES[kind]
        try:
            gguf.dequantize(np.zeros((1, size), np.uint8).view(_dtype(kind)), kind)
        except (NotImplementedError, KeyError, ValueError):
            continue
        if block <= 256:
            yield kind


def blocks(kind: gguf.GGMLQuantizationType, rows: int, columns: int, seed: int) -> np.ndarray:
    """Codes of a matrix: quantized where gguf can, drawn at random where it can only read."""
    rng = np.random.default_rng(seed)
    values = (0.1 * rng.standard_normal((rows, columns))).astype(np.float32)
    try:
        return gguf.quantize(values, kind)
    except NotImplementedError:
        pass
    block, size = gguf.GGML_QUANT_SIZES[kind]
    wanted, found = rows * columns // block, []
    while sum(map(len, found)) < wanted:
        drawn = rng.integers(0, 256, size=(_DRAWN, size), dtype=np.uint8)
        with np.errstate(all="ignore"):
            largest = np.abs(gguf.dequantize(drawn, kind).reshape(_DRAWN, block)).max(axis=1)
        found.append(drawn[np.isfinite(largest) & (largest < _LARGEST) & (largest > _SMALLEST)])
    return np.concatenate(found)[:wanted].reshape(rows, columns // block * size)


def write_pair(checkpoint: Path, kind: gguf.GGMLQuantizationType, file: Path, stands_for: Path) -> None:
    """Write the matrices of a checkpoint anew, as codes in a GGUF file and as floats in a checkpoint.

    Args:
        checkpoint: a tiny Qwen2, whose tensors GGUF has as they are.
        kind: type of the matrices.
        file: the GGUF file to write.
        stands_for: the checkpoint to write, of the floats that the codes stand for.
    """
    shutil.copytree(checkpoint, stands_for)
    weights = load_file(checkpoint / "model.safetensors")
    codes = {}
    for seed, (name, value) in enumerate(sorted(weights.items())):
        if value.ndim == 2:
            codes[name] = blocks(kind, *value.shape, seed)
            weights[name] = gguf.dequantize(codes[name], kind).reshape(value.shape).astype(np.float32)
    save_file(weights, stands_for / "model.safetensors", {"format": "pt"})
    tiny_gguf(stands_for, file, codes=codes, kind=kind.name)


def _dtype(kind: gguf.GGMLQuantizationType) -> type[np.generic]:
    return {"F32": np.float32, "F16": np.float16}.get(kind.name, np.uint8)
