"""Reading JSON that strangers wrote: bounded in size and depth, and one error for all that can be wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from olivine.passes.errors import SourceError

#: The largest that a model needs is a tokenizer or the index of a sharded checkpoint.
MAX_BYTES = 64_000_000
MAX_DEPTH = 64


def read_json(path: Path, where: str = "") -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        path: the file.
        where: beginning of the message; the path itself by default.

    Raises:
        SourceError: when it can't be read, is too large or nested too deeply, is no JSON, or holds no object.
    """
    name = f"{where}: {path.name}" if where else str(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise SourceError(f"{name} can't be read: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise SourceError(f"{name} has more than {MAX_BYTES / 1e6:.0f} MB: that is no config of a model")
    return parse_json(content, name)


def parse_json(content: bytes, name: str) -> dict[str, Any]:
    """The JSON object in ``content``; ``name`` begins the message.

    Raises:
        SourceError: as :func:`read_json`.
    """
    try:
        parsed = json.loads(content.decode("utf-8"), object_pairs_hook=_distinct)
    except RecursionError:
        raise SourceError(f"{name} is nested too deeply") from None
    except ValueError as error:  # no UTF-8, no JSON, a key given twice, or a number of thousands of digits
        raise SourceError(f"{name} is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise SourceError(f"{name} holds no JSON object")
    if not _within(parsed, MAX_DEPTH):
        raise SourceError(f"{name} is nested more than {MAX_DEPTH} levels deep")
    return parsed


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    distinct = dict(pairs)
    if len(distinct) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(n for n in names if names.count(n) > 1)!r} is given twice")
    return distinct


def _within(value: Any, depth: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    inside: Iterable[Any] = value.values() if isinstance(value, dict) else value
    return depth > 0 and all(_within(entry, depth - 1) for entry in inside)
