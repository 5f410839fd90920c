"""Numbers as people write them: read as what they mean, or refused with the way to write them."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from olivine.passes.errors import UsageError
from olivine.search.config.constraints import parse_constraint
from olivine.search.config.load import load_config
from olivine.search.config.quantities import parse_duration, parse_share, parse_size
from olivine.search.config.yaml_file import dump_yaml, read_yaml

STUDY = "model: m\nspace: {precision: [int8, int4]}\n"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), (90, 90), ("90s", 90), ("1.5h", 5400), ("12 m", 720), ("1h30m", 5400), ("1m 30s", 90), ("1e2", 100)],
)
def test_times(text: str | int, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", " ", "1h30", "30 minutes", "s", "1m2h", "-3s"])
def test_texts_that_are_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="takes a time above 0"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("parse", "text", "hint"),
    [
        (parse_share, "1,05", "with a decimal point it is 1.05"),
        (parse_share, "2,5%", "with a decimal point it is 2.5%"),
        (parse_size, "1,5GB", "with a decimal point it is 1.5GB"),
        (parse_duration, "1:30", "as a time it is 1h30m or 1m30s"),
        (parse_duration, "1:30:15", "as a time it is 1h30m15s"),
    ],
)
def test_a_mistake_in_a_number_shows_how_it_is_written(parse: Any, text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(hint)):
        parse(text)


def test_a_comma_in_a_constraint_is_named() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'perplexity_ratio <= 1\.05'\?"):
        parse_constraint("perplexity_ratio <= 1,05")


def written(tmp_path: Path, more: str) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(STUDY + more)
    return path


@pytest.mark.parametrize(("text", "value"), [("1e-2", 0.01), ("1.5e-2", 0.015), (".02", 0.02), ("2%", 0.02)])
def test_shares_in_a_study(text: str, value: float, tmp_path: Path) -> None:
    path = written(tmp_path, f"evaluation: {{latency: {{half_width: {text}}}}}\n")
    assert load_config(path).evaluation.latency.half_width == value


def test_sizes_may_have_an_exponent(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, "cache: {max_bytes: 1e9}\n")).cache.max_bytes == 10**9


def test_a_clock_is_no_number_of_seconds(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"stop\.timeout: .*as a time it is 1h30m or 1m30s"):
        load_config(written(tmp_path, "stop: {timeout: 1:30}\n"))


def test_a_comma_between_digits_in_a_mapping_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"A decimal number has a point, such as 1\.5"):
        load_config(written(tmp_path, "evaluation: {latency: {max_seconds: 1,5}}\n"))


def test_numbers_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    path = tmp_path / "numbers.yaml"
    path.write_text("a: [010, 1:30, 1e-2, 0x10, 1_000, 12e45678, 1.5, -.5, .inf, 2026-11-30]\n")
    values = read_yaml(path)["a"]
    assert values[:9] == [10, "1:30", 0.01, 16, 1000, "12e45678", 1.5, -0.5, float("inf")]


@pytest.mark.parametrize("text", ["1e-2", "1:30", "010", "0x10", "1.5", "no", "7"])
def test_a_text_that_looks_like_a_number_stays_one_in_the_stored_config(text: str, tmp_path: Path) -> None:
    path = tmp_path / "stored.yaml"
    path.write_text(dump_yaml({"name": text, "share": 0.01, "small": 1e-7, "count": 3}))
    assert read_yaml(path) == {"name": text, "share": 0.01, "small": 1e-7, "count": 3}
    assert yaml.safe_load(path.read_text())["name"] == text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_byte_order_mark_says_how_a_study_is_encoded(encoding: str, tmp_path: Path) -> None:
    marks = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}
    path = tmp_path / "study.yaml"
    path.write_bytes(marks.get(encoding, b"") + f"# für {encoding}\n{STUDY}".encode(encoding))
    assert load_config(path).model == "m"
