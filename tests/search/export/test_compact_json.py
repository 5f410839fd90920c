from __future__ import annotations

import json
from pathlib import Path

import pytest

from olivine.search.export.compact_json import copy_compact


def test_a_file_keeps_its_values_and_loses_its_spaces(tmp_path: Path) -> None:
    value = {"model": {"vocab": {"Ġthe": 1, "é\u2028": 2}, "scores": [-1.25e-7, 0.1]}, "merges": [["a", "b c"]]}
    (tmp_path / "a.json").write_text(json.dumps(value, indent=2), encoding="utf-8")
    copy_compact(tmp_path / "a.json", tmp_path / "b.json")
    assert json.loads((tmp_path / "b.json").read_text("utf-8")) == value
    assert (tmp_path / "b.json").stat().st_size < (tmp_path / "a.json").stat().st_size


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1,   "a": 2}',
        '{"half":   "\\ud800"}',
        "no  JSON",
        '{"a":1}',
    ],
    ids=["a name that comes twice", "half of a pair", "no JSON", "no spaces"],
)
def test_a_file_that_could_change_is_copied_as_it_is(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    copy_compact(tmp_path / "a.json", tmp_path / "b.json")
    assert (tmp_path / "b.json").read_text() == text
