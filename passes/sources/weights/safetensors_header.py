"""The header of a safetensors file, checked before anything reads tensors through it.

A length (8 bytes, little endian), a JSON object of that length, and the bytes of all tensors in a row without gaps:
https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from olivine.passes.errors import SourceError
from olivine.passes.sources.json_file import parse_json

#: A checkpoint of 100,000 tensors has a header of some 12 MB.
MAX_HEADER_BYTES = 32_000_000
_MAX_DIMS = 16
#: Type -> bits of an element.
_BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "U16": 16,
    "I16": 16,
    "F16": 16,
    "BF16": 16,
    "U32": 32,
    "I32": 32,
    "F32": 32,
    "U64": 64,
    "I64": 64,
    "F64": 64,
    "C64": 64,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
}


def read_header(path: Path) -> dict[str, Mapping[str, Any]]:
    """Tensor name -> {dtype, shape, data_offsets}, when the file is what its header says.

    Raises:
        SourceError: for a file that is cut off, or a header that is no header or does not fit the file.
    """
    with path.open("rb") as stream:
        size = path.stat().st_size
        length = int.from_bytes(stream.read(8), "little")
        if size < 10 or length > min(MAX_HEADER_BYTES, size - 8):
            raise SourceError(f"{path} is no safetensors file, or it is cut off: its header claims {length} bytes")
        header = parse_json(stream.read(length), f"the header of {path}")
    header.pop("__metadata__", None)
    spans = sorted(_span(path, name, about) for name, about in header.items())
    end = 0
    for start, stop in spans:
        if start != end:
            raise SourceError(f"{path}: its tensors overlap or leave gaps at byte {end}")
        end = stop
    if end != size - 8 - length:
        raise SourceError(f"{path} holds {size - 8 - length} bytes of tensors; its header describes {end}")
    return header


def _span(path: Path, name: str, about: Any) -> tuple[int, int]:
    """First byte of a tensor, and the byte after its last."""
    if not isinstance(about, dict) or set(about) != {"dtype", "shape", "data_offsets"}:
        raise SourceError(f"{path}: tensor {name[:100]!r} has no dtype, shape and data_offsets")
    dtype, shape, offsets = about["dtype"], about["shape"], about["data_offsets"]
    bits = _BITS.get(dtype) if isinstance(dtype, str) else None
    if bits is None or not _whole(shape) or len(shape) > _MAX_DIMS or not _whole(offsets) or len(offsets) != 2:
        raise SourceError(f"{path}: tensor {name[:100]!r} has the type {str(dtype)[:20]!r} or a shape that is none")
    start, stop = offsets
    if stop - start != -(-math.prod(shape) * bits // 8):
        raise SourceError(f"{path}: tensor {name[:100]!r} does not have the size of its type and shape")
    return start, stop


def _whole(values: Any) -> bool:
    """A list of whole numbers that a file can have."""
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 2**63 for v in values)
