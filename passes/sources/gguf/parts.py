"""Split GGUF files: all parts of one, by their names and the counts in their headers (llama.cpp's gguf-split)."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from olivine.passes.errors import SourceError
from olivine.passes.sources.gguf.header import PART_NUMBER, GgufHeader, read_header

_COUNT, _TENSORS = "split.count", "split.tensors.count"
_NAME = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")


def read_parts(path: Path) -> tuple[tuple[Path, ...], GgufHeader]:
    """All parts of the file that ``path`` is one of, and their headers as one.

    Returns:
        The parts in order, the first of which has the fields; one for a file that is not split.

    Raises:
        SourceError: when a part or a tensor is missing, or this is no GGUF file.
    """
    header = read_header(path)
    count, number = (_whole(header, field) for field in (_COUNT, PART_NUMBER))
    if count <= 1:
        return (path,), header
    if (parts := _NAME.fullmatch(path.name)) is None:
        raise SourceError(
            f"{path} is part {number + 1} of {count} of a split GGUF file. Give the "
            f"parts their names again (NAME-00001-of-{count:05d}.gguf ...), so that the others are found."
        )
    paths = tuple(path.with_name(f"{parts[1]}-{number:05d}-of-{count:05d}.gguf") for number in range(1, count + 1))
    if missing := [part.name for part in paths if not part.is_file()]:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise SourceError(
            f"{path} is a part of a split GGUF file, and {len(missing)} of its {count} parts are not beside it: "
            f"{', '.join(missing[:3])}{more}"
        )
    first, *others = (read_header(part) for part in paths)
    joined = replace(first, tensors={name: shape for part in (first, *others) for name, shape in part.tensors.items()})
    promised = _whole(first, _TENSORS)
    if promised not in (0, len(joined.tensors)):
        raise SourceError(
            f"{paths[0]}: its {count} parts hold {len(joined.tensors)} tensors, and should hold {promised}"
        )
    return paths, joined


def _whole(header: GgufHeader, field: str) -> int:
    """A count among the fields, within what names of parts can hold; 0 where there is none."""
    value = header.fields.get(field, 0)
    return value if type(value) is int and 0 <= value < 100_000 else 0
