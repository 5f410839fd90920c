from __future__ import annotations

import os
from pathlib import Path

import pytest

from olivine.passes.sources.content_hash import content_sha256, files_digest
from olivine.passes.store.digests import sha256_file


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OLIVINE_CACHE", str(tmp_path / "cache"))


def settled(path: Path, content: bytes, seconds_ago: float = 100.0) -> Path:
    path.write_bytes(content)
    then = path.stat().st_mtime - seconds_ago
    os.utime(path, (then, then))
    return path


def test_hash_is_remembered_while_the_file_does_not_change(tmp_path: Path) -> None:
    file = settled(tmp_path / "weights", b"abc")
    before = content_sha256(file, small_bytes=0)
    assert before == sha256_file(file)
    changed = file.stat()
    file.write_bytes(b"abd")  # so that reading it again would show
    os.utime(file, ns=(changed.st_atime_ns, changed.st_mtime_ns))
    assert content_sha256(file, small_bytes=0) == before


def test_change_of_the_same_size_is_seen(tmp_path: Path) -> None:
    before = content_sha256(settled(tmp_path / "weights", b"abc"), small_bytes=0)
    after = content_sha256(settled(tmp_path / "weights", b"abd", seconds_ago=50.0), small_bytes=0)
    assert before != after


def test_file_changed_just_now_is_not_remembered(tmp_path: Path) -> None:
    content_sha256(settled(tmp_path / "weights", b"abc", seconds_ago=0.0), small_bytes=0)
    assert not (tmp_path / "cache").exists()


def test_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    one, two = settled(tmp_path / "a", b"abc"), settled(tmp_path / "b", b"abd")
    both = files_digest([one, two])
    assert files_digest([two, one]) == both
    two.rename(tmp_path / "c")
    assert files_digest([one, tmp_path / "c"]) != both
