"""The header of a GGUF file: read within the file's bounds, whatever it claims (ggml/docs/gguf.md, versions 2 and 3).

Counts and lengths in the file are 64 bits wide and anybody's to choose: none is believed before it fits into what is
left of the file. Long texts and lists, which vocabularies are, are passed over.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from olivine.passes.errors import SourceError

#: Value type -> struct code; 8 is a string, 9 an array.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
#: Arrays of arrays are allowed, and nobody writes them.
_MAX_NESTING = 3
_MAX_DIMS, _MAX_NAME_BYTES = 8, 65_535
_MAX_TEXT_BYTES, _MAX_LIST = 4096, 1024
_ARCHITECTURE = "general.architecture"
#: The number of a part of a split file, from 0 on; only the first has all fields.
PART_NUMBER = "split.no"


class _Broken(Exception):
    """A fault of the file."""


@dataclass(frozen=True)
class GgufHeader:
    """The header of a GGUF file.

    Attributes:
        architecture: the value of ``general.architecture``; empty in the later parts of a split file.
        fields: every value that is a number, a short text or a short list of numbers.
        tensors: name of each tensor -> its shape as numpy has it, rows first.
    """

    architecture: str
    fields: Mapping[str, Any]
    tensors: Mapping[str, tuple[int, ...]]

    def own(self, name: str, default: Any = None) -> Any:
        """The value of ``ARCHITECTURE.name``."""
        return self.fields.get(f"{self.architecture}.{name}", default)


def read_header(path: Path) -> GgufHeader:
    """Read the whole header of a GGUF file.

    Raises:
        SourceError: when this is no GGUF file, or one that is cut off or claims what it does not have.
    """
    try:
        with path.open("rb") as stream:
            return _Reader(stream, path.stat().st_size).header()
    except (_Broken, UnicodeDecodeError) as error:
        raise SourceError(f"{path} is not a GGUF file, or it is cut off: {error}") from error


class _Reader:
    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._left = stream, size

    def header(self) -> GgufHeader:
        magic, version, tensors, fields = self._values("4sIQQ")
        if magic != b"GGUF":
            raise _Broken("it does not begin with GGUF")
        if version not in (2, 3):
            raise _Broken(f"it is of version {version}; 2 and 3 are read")
        values: dict[str, Any] = {}
        for _ in range(self._fitting(fields, 13)):
            key = self._string(_MAX_NAME_BYTES)
            (kind,) = self._values("I")
            value = self._value(kind, 0)
            if value is not None:
                values[key] = value
        shapes = dict(self._tensor() for _ in range(self._fitting(tensors, 24)))
        architecture = values.get(_ARCHITECTURE)
        if not isinstance(architecture, str) and not values.get(PART_NUMBER):
            raise _Broken(f"it has no {_ARCHITECTURE}")
        return GgufHeader(str(architecture or ""), values, shapes)

    def _tensor(self) -> tuple[str, tuple[int, ...]]:
        name = self._string(_MAX_NAME_BYTES)
        (dims,) = self._values("I")
        if dims > _MAX_DIMS:
            raise _Broken(f"tensor {name[:100]!r} has {dims} dimensions")
        *shape, _kind, offset = self._values(f"{dims}QIQ")
        # No type takes less than one bit a weight.
        if math.prod(shape) // 8 > self._left or offset > self._left:
            raise _Broken(f"tensor {name[:100]!r} is larger than the file")
        return name, tuple(reversed(shape))

    def _value(self, kind: int, depth: int) -> Any:
        """A value; None for one that is too long to be kept."""
        if kind == _STRING:
            (length,) = self._values("Q")
            if length > _MAX_TEXT_BYTES:
                return self._pass(length)
            return self._read(length).decode("utf-8", "replace")
        if kind in _SCALARS:
            return self._values(_SCALARS[kind])[0]
        if kind != _ARRAY:
            raise _Broken(f"it has a value of the unknown type {kind}")
        element, count = self._values("IQ")
        if element in _SCALARS and count <= _MAX_LIST:
            return list(self._values(f"{count}{_SCALARS[element]}"))
        if element in _SCALARS:
            return self._pass(count * struct.calcsize(_SCALARS[element]))
        if depth == _MAX_NESTING:
            raise _Broken("its arrays are nested too deeply")
        for _ in range(self._fitting(count, 8)):
            self._skip(element, depth + 1)
        return None

    def _skip(self, kind: int, depth: int) -> None:
        """Pass over an element of a list."""
        if kind == _STRING:
            self._pass(self._values("Q")[0])
        else:
            self._value(kind, depth)

    def _string(self, longest: int) -> str:
        (length,) = self._values("Q")
        if length > longest:
            raise _Broken(f"it has a name of {length} bytes")
        return self._read(length).decode("utf-8")

    def _fitting(self, count: int, least_bytes: int) -> int:
        """``count``, when so many things of at least that size can be in the rest of the file."""
        if count * least_bytes > self._left:
            raise _Broken(f"it claims {count} entries, and {self._left} bytes are left")
        return count

    def _values(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack("<" + layout, self._read(struct.calcsize("<" + layout)))

    def _read(self, length: int) -> bytes:
        self._take(length)
        content = self._stream.read(length)
        if len(content) != length:
            raise _Broken("it ends too early")
        return content

    def _pass(self, length: int) -> None:
        self._take(length)
        self._stream.seek(length, 1)

    def _take(self, length: int) -> None:
        if length > self._left:
            raise _Broken(f"it claims {length} bytes, and {self._left} are left")
        self._left -= length
