"""Texts as people have them: encodings, byte-order marks, compression, line ends; and files that hold no text."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest

from olivine.evaluators.data.text_file import file_kind, read_text
from olivine.passes.errors import UsageError

TEXT = "Größe — 1 µm.\n\n第二段。\n"


def zstd(content: bytes) -> bytes:
    packed: bytes = pyarrow.Codec("zstd").compress(content, asbytes=True)
    return packed


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.encode("utf-32"),
        codecs.BOM_UTF32_BE + TEXT.encode("utf-32-be"),
    ],
)
def test_a_text_is_the_same_in_every_encoding_that_names_itself(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.txt").write_bytes(content)
    assert read_text(tmp_path / "t.txt") == TEXT


def test_lines_end_with_a_line_feed_whatever_wrote_them(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(b"one\r\ntwo\rthree\n\r\nfour")
    assert read_text(tmp_path / "t.txt") == "one\ntwo\nthree\n\nfour"


def test_characters_that_look_like_line_ends_stay(tmp_path: Path) -> None:
    text = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\x1dh\x1ei"
    (tmp_path / "t.txt").write_text(text, encoding="utf-8", newline="")
    assert read_text(tmp_path / "t.txt") == text


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("named", [True, False])
def test_compressed_texts_are_unpacked_whatever_their_name(tmp_path: Path, suffix: str, named: bool) -> None:
    path = tmp_path / f"t.txt{suffix if named else ''}"
    path.write_bytes(PACKERS[suffix](TEXT.encode("utf-16")))
    assert read_text(path) == TEXT


@pytest.mark.parametrize("suffix", PACKERS)
def test_several_packed_parts_are_one_text(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t.txt{suffix}"
    path.write_bytes(PACKERS[suffix](b"one ") + PACKERS[suffix](b"two"))
    assert read_text(path) == "one two"


@pytest.mark.parametrize("suffix", PACKERS)
def test_half_of_a_packed_text_is_a_mistake_and_no_shorter_text(tmp_path: Path, suffix: str) -> None:
    packed = PACKERS[suffix](b"".join(f"line {n}\n".encode() for n in range(5000)))
    path = tmp_path / f"t.txt{suffix}"
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(UsageError, match=r"t\.txt\.\w+ is damaged \w+ data.*again"):
        read_text(path)


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_name_that_promises_compression_is_held_to_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t.txt{suffix}"
    path.write_bytes(b"not packed")
    with pytest.raises(UsageError, match="which its name says"):
        read_text(path)


def test_another_encoding_is_named_with_line_byte_and_cure(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes("plain\n\ncafé".encode("windows-1252"))
    with pytest.raises(UsageError, match=r"t\.txt: line 3 is no UTF-8: it holds the byte 0xe9\. .*iconv -f") as caught:
        read_text(tmp_path / "t.txt")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("one\ntwo".encode("utf-16-le"), "line 1 holds a NUL character.*byte-order mark"),
        (b"PK\x03\x04rest", "a ZIP archive or an Office document"),
        (b"%PDF-1.7", "a PDF document"),
        (b"PAR1", "a Parquet file"),
        (b"name" + b"\0" * 253 + b"ustar", "a tar archive"),
    ],
)
def test_what_is_no_text_is_called_by_its_name(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.txt").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_text(tmp_path / "t.txt")


def test_a_file_that_can_not_be_read_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read: Is a directory"):
        read_text(tmp_path)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jsonl", ".jsonl"),
        ("a.JSONL.GZ", ".jsonl"),
        ("a.b.csv.zst", ".csv"),
        ("a.gz", ""),
        ("a", ""),
        ("a.md", ".md"),
    ],
)
def test_the_kind_of_a_file_is_that_of_its_content(name: str, kind: str) -> None:
    assert file_kind(Path(name)) == kind
