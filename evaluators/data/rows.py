"""Rows of named columns, read from a local file; each knows its place, so that a mistake in it can be named."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olivine.evaluators.data.text_file import file_kind, read_bytes, read_text
from olivine.passes.errors import UsageError

#: The column of a plain text.
TEXT = "text"
#: Kinds of files with named columns; every other file is plain text.
TABLES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        place: in its file: ``line 3``, or ``row 3`` of a file without lines.
        values: column -> value.
    """

    place: str
    values: Mapping[str, Any]


def read_table(path: Path) -> Iterator[Row]:
    """Read the rows of a file of one of the kinds in ``TABLES``; it may be compressed.

    Values of CSV and TSV are texts. JSON is a list of objects, one object, or an object a line, whatever the file's
    suffix says of it.

    Raises:
        UsageError: naming the line that can't be read, and the cure.
    """
    kind = file_kind(path)
    if kind == ".parquet":
        return _parquet(path)
    text = read_text(path)
    return _separated(path, text, kind) if kind in (".csv", ".tsv") else _json(path, text)


def file_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    """Read the rows of a file as :func:`read_table` does; of a plain text, its paragraphs in the column ``text``.

    Raises:
        UsageError: naming the line that can't be read, and the cure.
    """
    if file_kind(path) in TABLES:
        return (row.values for row in read_table(path))
    return ({TEXT: paragraph} for paragraph in read_text(path).split("\n\n"))


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow  # type: ignore[import-untyped] # pyarrow has no types
    from pyarrow import parquet

    try:
        rows = parquet.read_table(pyarrow.BufferReader(read_bytes(path))).to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise UsageError(f"{path} is no Parquet file: {error}") from error
    for number, values in enumerate(rows, start=1):
        yield Row(f"row {number}", values)


def _separated(path: Path, text: str, kind: str) -> Iterator[Row]:
    first, _, rest = text.partition("\n")
    if announced := first.lower().startswith("sep=") and len(first) == 5:  # Excel's word about the file, no row
        text = rest
    separator = "\t" if kind == ".tsv" else first[4] if announced else _separator(first)
    reader = csv.reader(io.StringIO(text, newline="\n"), delimiter=separator, strict=True)
    limit = csv.field_size_limit(sys.maxsize)
    try:
        header = next(reader, [])
        if twice := sorted({name for name in header if header.count(name) > 1}):
            raise UsageError(f"{path}: the header names the column '{twice[0]}' twice")
        for fields in reader:
            line = reader.line_num + announced
            if fields and len(fields) != len(header):
                raise UsageError(
                    f"{path}: line {line} ends a row of {len(fields)} fields; the header names {len(header)} columns. "
                    f"A text that holds '{separator}' or a line break goes into double quotes."
                )
            if fields:
                yield Row(f"line {line}", dict(zip(header, fields, strict=True)))
    except csv.Error as error:
        raise UsageError(f"{path}: line {reader.line_num + announced} is no CSV: {error}") from error
    finally:
        csv.field_size_limit(limit)


def _separator(header: str) -> str:
    """The character that separates the columns of a header: a comma, unless there is none and another one is there."""
    return next((mark for mark in ",;\t" if mark in header), ",")


def _json(path: Path, text: str) -> Iterator[Row]:
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if len(lines) > 1 and _is_object(lines[0][1]):
        rows = ((f"line {number}", _parsed(path, line, number)) for number, line in lines)
    else:
        whole = _parsed(path, text, 1) if lines else []
        entries = whole if isinstance(whole, list) else [whole]
        rows = ((f"entry {number}", entry) for number, entry in enumerate(entries, start=1))
    for place, values in rows:
        if not isinstance(values, dict):
            raise UsageError(f'{path}: {place} is no object with columns, such as {{"{TEXT}": "..."}}')
        yield Row(place, values)


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _parsed(path: Path, text: str, first_line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise UsageError(f"{path}: line {line} is no JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise UsageError(f"{path}: it is nested too deeply to be rows of text") from error
