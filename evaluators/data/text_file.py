"""The text of a file as people have it: compressed or not, in any Unicode encoding that it names itself."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path

from olivine.passes.errors import UsageError

#: First bytes of a compressed file -> its name, and the function that unpacks it.
_COMPRESSED: dict[bytes, tuple[str, Callable[[bytes], bytes]]] = {
    b"\x1f\x8b": ("gzip", gzip.decompress),
    b"BZh": ("bzip2", bz2.decompress),
    b"\xfd7zXZ\x00": ("xz", lzma.decompress),
    b"\x28\xb5\x2f\xfd": ("zstd", lambda content: _unpack_zstd(content)),
}
_SUFFIXES = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
#: First bytes of files that hold no text -> what to call them.
_NO_TEXT = {
    b"PK\x03\x04": "a ZIP archive or an Office document",
    b"%PDF": "a PDF document",
    b"\xd0\xcf\x11\xe0": "an old Office document",
    b"ARROW1": "an Arrow file",
    b"PAR1": "a Parquet file",
    b"SQLite format 3": "a database",
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
}
#: Byte-order mark -> the encoding that it stands for; the longer ones first.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def file_kind(path: Path) -> str:
    """The suffix that says what a file holds, in small letters, without that of its compression: ``.jsonl``."""
    inner = path.with_suffix("") if path.suffix.lower() in _SUFFIXES else path
    return inner.suffix.lower()


def read_bytes(path: Path) -> bytes:
    """Read a file, unpacked where it is compressed, whatever its name.

    Raises:
        UsageError: when it can't be read, or its compressed content is damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from error
    named = _SUFFIXES.get(path.suffix.lower())
    for first, (name, unpack) in _COMPRESSED.items():
        if content.startswith(first):
            try:
                return unpack(content)
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
                raise UsageError(f"{path} is damaged {name} data: {error}. Fetch or compress it again.") from error
    if named is not None and content:
        raise UsageError(f"{path} is no {named} data, which its name says. Rename it, or compress it again.")
    return content


def _unpack_zstd(content: bytes) -> bytes:
    import pyarrow  # type: ignore[import-untyped] # pyarrow has no types

    unpacked: bytes = pyarrow.CompressedInputStream(pyarrow.BufferReader(content), "zstd").read()
    return unpacked


def read_text(path: Path) -> str:
    r"""Read the text of a file; its lines end with ``\n``.

    UTF-8, or what a byte-order mark says: UTF-16 or UTF-32. The mark is no part of the text.

    Raises:
        UsageError: when it can't be read or unpacked, or is no such text, naming the line and the cure.
    """
    content = read_bytes(path)
    for first, name in _NO_TEXT.items():
        if content.startswith(first):
            raise UsageError(f"{path} is {name}, which is no text. Save what it holds as .txt, .jsonl or .csv.")
    if content[257:262] == b"ustar":
        raise UsageError(f"{path} is a tar archive: unpack it, and name the file in it that holds the text.")
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{path}: line {line} is no {encoding.removesuffix('-sig').upper()}: it holds the byte "
            f"0x{content[error.start]:02x}. Save the file as UTF-8, such as with: "
            f"iconv -f WINDOWS-1252 -t UTF-8 {path.name}"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UsageError(
            f"{path}: line {line} holds a NUL character: this is no text, or UTF-16 without a byte-order mark. "
            "Save it as UTF-8."
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")
