"""What one machine has built, another one fetches; the bytes are the same, and half a build is never seen."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from olivine.passes.errors import UsageError
from olivine.passes.store.cache import Cache
from olivine.passes.store.shared_builds import SharedBuilds


def write(to: Path) -> frozenset[str]:
    (to / "model.onnx").write_bytes(b"graph")
    (to / "more").mkdir()
    (to / "more" / "data").write_bytes(b"weights" * 1000)
    return frozenset({"onnx", "float"})


def never(to: Path) -> frozenset[str]:
    raise AssertionError("it was built already")


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_a_build_is_made_on_one_machine_and_fetched_by_the_other(scheme: str, tmp_path: Path) -> None:
    shared = SharedBuilds(f"file://{tmp_path / 'bucket'}" if scheme == "file" else "memory://builds")
    here, there = Cache(tmp_path / "here", remote=shared), Cache(tmp_path / "there", remote=shared)
    made = here.put("k1", write)
    fetched = there.put("k1", never)
    assert fetched.properties == made.properties
    assert [p.relative_to(fetched.path) for p in fetched.files()] == [p.relative_to(made.path) for p in made.files()]
    assert [p.read_bytes() for p in fetched.files()] == [p.read_bytes() for p in made.files()]
    assert there.get("k1") == fetched, "it is an entry as any other"


def test_checkpoints_stay_where_they_are(tmp_path: Path) -> None:
    shared = SharedBuilds(f"file://{tmp_path / 'bucket'}")
    Cache(tmp_path / "here", remote=shared).put("k2", lambda to: frozenset({"checkpoint"}))
    assert shared.fetch("k2", tmp_path) is None
    assert not list(tmp_path.glob("bucket/*"))


def test_a_failed_build_is_not_left_for_others(tmp_path: Path) -> None:
    shared = SharedBuilds(f"file://{tmp_path / 'bucket'}")

    def fails(to: Path) -> frozenset[str]:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        Cache(tmp_path / "here", remote=shared).put("k3", fails)
    assert not list(tmp_path.glob("bucket/*"))


def test_an_unknown_url_says_what_fits(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cache\.shared: nonsense://x"):
        Cache(tmp_path, remote=SharedBuilds("nonsense://x")).put("k", write)


def test_a_store_that_takes_nothing_warns_and_the_build_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise TimeoutError("the bucket is full")

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.put_file", full)
    cache = Cache(tmp_path / "here", remote=SharedBuilds(f"file://{tmp_path / 'bucket'}"))
    assert cache.put("k", write) == cache.get("k")
    assert "build k can't be left for other machines: TimeoutError: the bucket is full" in caplog.text


@pytest.mark.parametrize("fault", ["cut", "no archive", "network", "hostile"])
def test_a_build_that_cannot_be_fetched_is_built_with_a_warning(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    bucket = tmp_path / "bucket"
    shared = SharedBuilds(f"file://{bucket}")
    Cache(tmp_path / "here", remote=shared).put("k", write)
    whole = (bucket / "k.tar").read_bytes()
    if fault == "cut":
        (bucket / "k.tar").write_bytes(whole[: whole.index(b"weights") + 3000])
    elif fault == "no archive":
        (bucket / "k.tar").write_bytes(b"<html>expired</html>")
    elif fault == "network":
        monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.get_file", unreachable)
    else:
        with tarfile.open(bucket / "k.tar", "a") as archive:
            archive.add(__file__, "../out")
    made = Cache(tmp_path / "there", remote=shared).put("k", write)
    assert sorted(p.name for p in made.files()) == ["data", "model.onnx"]
    assert "build k can't be fetched, so it is built here" in caplog.text
