"""The header of a GGUF file: read within the file's bounds, whatever it claims (ggml/docs/gguf.md, versions 2 and 3).

Counts and lengths in the file are 64 bits wide and anybody's to choose: none is believed before it fits into what is
left of the file, and no value is read that is not asked for.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any, BinaryIO

from olivine.passes.errors import SourceError

#: Value type -> struct code; 8 is a string, 9 an array.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
#: Arrays of arrays are allowed, and nobody writes them.
_MAX_NESTING = 3
_MAX_DIMS, _MAX_NAME_BYTES = 8, 65_535
_ARCHITECTURE = "general.architecture"


class _Broken(Exception):
    """What is wrong with the file."""


def read_architecture(path: Path) -> str:
    """The value of ``general.architecture``, which writers put first but need not; the whole header is checked.

    Raises:
        SourceError: when this is no GGUF file, or one that is cut off or claims what it does not have.
    """
    try:
        with path.open("rb") as stream:
            return _Reader(stream, path.stat().st_size).architecture()
    except (_Broken, UnicodeDecodeError) as error:
        raise SourceError(f"{path} is not a GGUF file, or it is cut off: {error}") from error


class _Reader:
    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._left = stream, size

    def architecture(self) -> str:
        magic, version, tensors, fields = self._values("4sIQQ")
        if magic != b"GGUF":
            raise _Broken("it does not begin with GGUF")
        if version not in (2, 3):
            raise _Broken(f"it is of version {version}; 2 and 3 are read")
        found = None
        for _ in range(self._fitting(fields, 13)):
            key = self._string(_MAX_NAME_BYTES)
            (kind,) = self._values("I")
            if key == _ARCHITECTURE and kind == _STRING:
                found = self._string(_MAX_NAME_BYTES)
            else:
                self._skip(kind, 0)
        for _ in range(self._fitting(tensors, 24)):
            self._tensor()
        if found is None:
            raise _Broken(f"it has no {_ARCHITECTURE}")
        return found

    def _tensor(self) -> None:
        name = self._string(_MAX_NAME_BYTES)
        (dims,) = self._values("I")
        if dims > _MAX_DIMS:
            raise _Broken(f"tensor {name[:100]!r} has {dims} dimensions")
        *shape, _kind, offset = self._values(f"{dims}QIQ")
        # No type takes less than one bit a weight.
        if math.prod(shape) // 8 > self._left or offset > self._left:
            raise _Broken(f"tensor {name[:100]!r} is larger than the file")

    def _skip(self, kind: int, depth: int) -> None:
        if kind == _STRING:
            self._pass(self._values("Q")[0])
        elif kind == _ARRAY:
            element, count = self._values("IQ")
            if element in _SCALARS:
                self._pass(count * struct.calcsize(_SCALARS[element]))
                return
            if depth == _MAX_NESTING:
                raise _Broken("its arrays are nested too deeply")
            for _ in range(self._fitting(count, 8)):
                self._skip(element, depth + 1)
        elif kind in _SCALARS:
            self._values(_SCALARS[kind])
        else:
            raise _Broken(f"it has a value of the unknown type {kind}")

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
        found = self._stream.read(length)
        if len(found) != length:
            raise _Broken("it ends too early")
        return found

    def _pass(self, length: int) -> None:
        self._take(length)
        self._stream.seek(length, 1)

    def _take(self, length: int) -> None:
        if length > self._left:
            raise _Broken(f"it claims {length} bytes, and {self._left} are left")
        self._left -= length
