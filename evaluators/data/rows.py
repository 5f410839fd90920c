"""Rows of named columns, read from a local file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from olivine.passes.errors import UsageError

#: The column of a plain text.
TEXT = "text"


def file_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    """Read the rows of a .jsonl, .json, .csv or .parquet file; of another one, its paragraphs in the column ``text``.

    Values of a CSV are texts.

    Raises:
        UsageError: naming the line that can't be read.
    """
    if path.suffix == ".parquet":
        from pyarrow import ArrowInvalid, parquet  # type: ignore[import-untyped] # pyarrow has no types

        try:
            yield from parquet.read_table(path).to_pylist()
        except ArrowInvalid as error:
            raise UsageError(f"{path} is no Parquet file: {error}") from error
        return
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text in UTF-8: {error}") from error
    if path.suffix == ".csv":
        yield from _csv(path, text)
    elif path.suffix in (".json", ".jsonl"):
        yield from _json(path, text)
    else:
        yield from ({TEXT: document} for document in text.split("\n\n"))


def _csv(path: Path, text: str) -> Iterator[Mapping[str, Any]]:
    reader = csv.DictReader(text.splitlines(keepends=True), strict=True)
    try:
        for row in reader:
            if None in row:
                raise UsageError(f"{path}: line {reader.line_num} has more fields than the header names columns")
            yield row
    except csv.Error as error:
        raise UsageError(f"{path}: line {reader.line_num} is no CSV: {error}") from error


def _json(path: Path, text: str) -> Iterator[Mapping[str, Any]]:
    lines = [(1, text)] if path.suffix == ".json" else list(enumerate(text.splitlines(), start=1))
    for number, line in lines:
        if not line.strip():
            continue
        try:
            parsed = json.loads(line)
        except json.JSONDecodeError as error:
            raise UsageError(f"{path}: line {number} is no JSON: {error}") from error
        for row in parsed if path.suffix == ".json" and isinstance(parsed, list) else [parsed]:
            if not isinstance(row, dict):
                raise UsageError(f"{path}: line {number} holds no object with columns")
            yield row
