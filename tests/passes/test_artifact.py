from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olivine.passes.artifact import ModelArtifact, link_or_copy
from olivine.passes.store.atomic_files import write_atomic
from olivine.passes.store.digests import digest, sha256_file

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON, max_size=6))
def test_digest_ignores_the_order_of_keys(value: dict[str, object]) -> None:
    assert digest(value) == digest(dict(reversed(value.items())))


@given(JSON)
def test_digest_survives_a_round_trip_through_json(value: object) -> None:
    assert digest(json.loads(json.dumps(value))) == digest(value)


def test_digest_is_of_the_length_asked() -> None:
    assert len(digest({"a": 1})) == 32
    assert digest({"a": 1}, length=12) == digest({"a": 1})[:12]


def test_artifact_counts_graph_and_data_only(tiny_onnx: Path) -> None:
    artifact = ModelArtifact(tiny_onnx, "key", frozenset({"onnx"}))
    sizes = [(tiny_onnx / name).stat().st_size for name in ("model.onnx", "model.onnx.data")]
    assert artifact.model_bytes() == sum(sizes)
    assert artifact.onnx_path() == tiny_onnx / "model.onnx"
    assert artifact.files() == sorted(tiny_onnx.iterdir())


def test_sha256_is_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_file(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


def test_atomic_write_replaces_and_leaves_no_trace(tmp_path: Path) -> None:
    write_atomic(tmp_path / "sub" / "a.json", "old")
    write_atomic(tmp_path / "sub" / "a.json", "new")
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["a.json"]
    assert (tmp_path / "sub" / "a.json").read_text() == "new"


def test_atomic_write_that_fails_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomic(tmp_path / "a.json", "old")

    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_atomic(tmp_path / "a.json", "new")
    assert (tmp_path / "a.json").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_link_shares_bytes_and_follows_symbolic_links(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"weights")
    (tmp_path / "link").symlink_to("blob")
    link_or_copy(tmp_path / "link", tmp_path / "to" / "model")
    assert not (tmp_path / "to" / "model").is_symlink()
    assert (tmp_path / "to" / "model").samefile(tmp_path / "blob")


def test_copy_where_links_are_not_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "blob").write_bytes(b"weights")

    def refuse(*_: object) -> None:
        raise OSError("cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    link_or_copy(tmp_path / "blob", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"weights"
    assert not (tmp_path / "copy").samefile(tmp_path / "blob")
