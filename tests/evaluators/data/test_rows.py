from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from olivine.evaluators.data.rows import file_rows, read_table
from olivine.passes.errors import UsageError

#: Characters at which ``str.splitlines`` breaks, and no line of a file ends.
BREAKS = ("\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e")
ROWS = [{"text": f"one {mark} two", "label": "1"} for mark in BREAKS]


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_text(text, encoding=encoding, newline="")
    return path


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


def separated(rows: list[dict[str, Any]], mark: str) -> str:
    return "\n".join([mark.join(rows[0]), *(mark.join(map(str, row.values())) for row in rows)])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", jsonl(ROWS)),
        ("a.ndjson", jsonl(ROWS) + "\n\n"),
        ("a.json", json.dumps(ROWS, ensure_ascii=False, indent=1)),
        ("lines.json", jsonl(ROWS)),
        ("list.jsonl", json.dumps(ROWS, ensure_ascii=False)),
        ("a.csv", separated(ROWS, ",")),
        ("semicolons.csv", separated(ROWS, ";")),
        ("tabs.csv", separated(ROWS, "\t")),
        ("excel.csv", "sep=;\n" + separated(ROWS, ";")),
        ("a.tsv", separated(ROWS, "\t").replace("\n", "\r\n")),
    ],
)
def test_a_table_is_read_as_it_is(tmp_path: Path, name: str, text: str) -> None:
    assert list(file_rows(write(tmp_path / name, text))) == ROWS
    assert list(file_rows(write(tmp_path / name, text, "utf-16"))) == ROWS
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress(text.encode("utf-8-sig")))
    assert list(file_rows(packed)) == ROWS


def test_a_csv_keeps_quoted_line_breaks_separators_and_long_texts(tmp_path: Path) -> None:
    long = "word " * 100_000
    path = write(tmp_path / "a.csv", f'text,n\n"one\n""two"", three",1\n\n"{long}",2\n')
    assert [row.values["text"] for row in read_table(path)] == ['one\n"two", three', long]
    assert [row.place for row in read_table(path)] == ["line 3", "line 5"]


def test_one_json_object_is_one_row(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", '{"text":\n"one"}')
    assert [row.values for row in read_table(path)] == [{"text": "one"}]


def test_a_file_without_rows_has_none(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.json", "a.csv"):
        assert list(file_rows(write(tmp_path / name, "\n"))) == []


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"text": "a"}\n{"text": ', "line 2 is no JSON: Expecting value"),
        ("a.jsonl", '{"text": "a"}\n[1]', "line 2 is no object with columns"),
        ("a.json", '[{"text": "a"},\n {"text" "b"}]', "line 2 is no JSON: Expecting ':' delimiter"),
        ("a.json", '[{"text": "a"}, "b"]', "entry 2 is no object"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.csv", "text,n\none,1\ntwo, three,2", "line 3 ends a row of 3 fields; the header names 2 columns.*quotes"),
        ("a.csv", "text,n\none", "line 2 ends a row of 1 fields"),
        ("a.csv", 'text\n"one', "line 2 is no CSV: unexpected end of data"),
        ("a.csv", "text,text\na,b", "names the column 'text' twice"),
        ("a.parquet", "text", "is no Parquet file"),
    ],
)
def test_a_broken_table_is_named_with_its_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = write(tmp_path / name, text)
    with pytest.raises(UsageError, match=message) as caught:
        list(file_rows(path))
    assert str(path) in str(caught.value)
