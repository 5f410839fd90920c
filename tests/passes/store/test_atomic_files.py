from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from power_loss import Disk

from olivine.passes.store.atomic_files import (
    remove_stale,
    replace_folder,
    staged,
    staging_folder,
    staging_name,
    write_atomic,
)
from olivine.passes.store.cache import Cache

ARRIVED = pytest.mark.parametrize("arrived", ["nothing else", "all names"])


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    root = tmp_path / "disk"
    root.mkdir()
    (root / "old.json").write_text("old")
    watched = Disk(root, monkeypatch)
    yield watched
    watched.close()


@ARRIVED
def test_the_model_of_a_power_loss_loses_what_was_not_synced(disk: Disk, tmp_path: Path, arrived: str) -> None:
    (disk.root / "new.json").write_text("new")
    (disk.root / "old.json").write_text("changed")
    found = disk.after_power_loss(tmp_path / "after", arrived)  # type: ignore[arg-type]
    assert (found / "old.json").read_text() == "old"
    assert [p.read_text() for p in found.glob("new.json")] == ([] if arrived == "nothing else" else [""])


@ARRIVED
def test_a_file_that_was_written_is_there_whole_after_a_power_loss(disk: Disk, tmp_path: Path, arrived: str) -> None:
    write_atomic(disk.root / "old.json", "new")
    write_atomic(disk.root / "trials" / "0001.json", "record")
    found = disk.after_power_loss(tmp_path / "after", arrived)  # type: ignore[arg-type]
    assert (found / "old.json").read_text() == "new"
    assert (found / "trials" / "0001.json").read_text() == "record"


@ARRIVED
def test_whenever_the_power_goes_there_is_the_old_file_or_the_new_one(
    disk: Disk, tmp_path: Path, arrived: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look() -> None:
        after = disk.after_power_loss(tmp_path / "after", arrived)  # type: ignore[arg-type]
        seen.append((after / "old.json").read_text())

    replace, fsync = os.replace, os.fsync
    monkeypatch.setattr(os, "replace", lambda *names: (replace(*names), look()))
    monkeypatch.setattr(os, "fsync", lambda descriptor: (fsync(descriptor), look()))
    write_atomic(disk.root / "old.json", "new")
    assert len(seen) >= 3
    assert set(seen) <= {"old", "new"}
    assert seen[-1] == "new"


@ARRIVED
def test_a_cache_entry_is_whole_or_absent_whenever_the_power_goes(
    disk: Disk, tmp_path: Path, arrived: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []

    def look() -> None:
        cache = Cache(disk.after_power_loss(tmp_path / "after", arrived))  # type: ignore[arg-type]
        about = cache.root / "artifacts" / "k" / "artifact.json"
        found.append((about.exists() and about.read_text() != "", cache.root))
        if found[-1][0]:
            assert (cache.root / "artifacts" / "k" / "model" / "weights").read_bytes() == b"w" * 5000

    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (fsync(descriptor), look()))

    def build(to: Path) -> frozenset[str]:
        (to / "weights").write_bytes(b"w" * 5000)
        return frozenset({"onnx"})

    Cache(disk.root).put("k", build)
    assert found[-1][0]
    assert not found[0][0]


@ARRIVED
def test_an_export_replaces_the_old_folder_in_one_step(
    disk: Disk, tmp_path: Path, arrived: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = disk.root / "best"
    for content in ("old", "new"):
        with staging_folder(disk.root, "best") as folder:
            (folder / "model").write_text(content)
            replace_folder(folder, best)
        assert (best / "model").read_text() == content
        assert sorted(p.name for p in disk.root.iterdir()) == ["best", "old.json"]
    found = disk.after_power_loss(tmp_path / "after", arrived)  # type: ignore[arg-type]
    assert (found / "best" / "model").read_text() == "new"


def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.json", "old")
    with pytest.raises(ZeroDivisionError), staged(tmp_path / "a.json") as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"


def test_what_a_killed_process_had_written_aside_is_swept_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from olivine.passes.store.atomic_files import *\n"
        "write = staged(Path(sys.argv[1]) / 'trials' / 'a.json'); write.__enter__().write_text('half')\n"
        "held = staging_folder(Path(sys.argv[1]), 'best'); (held.__enter__() / 'model').write_text('half')\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    own = staging_name(tmp_path / "b.json")
    own.write_text("half")
    foreign = tmp_path / ".c.json.1@another-machine.tmp"
    foreign.write_text("half")
    assert len([p for p in tmp_path.rglob("*") if p.name.startswith(".")]) == 4
    remove_stale(tmp_path)
    assert {p for p in tmp_path.rglob("*") if p.name.startswith(".")} == {own, foreign}
