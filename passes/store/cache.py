"""Cache: content-addressed store of pass outputs, safe for several processes, evicted by size.

An entry is a folder named by its key. It is built staging, synced and renamed into place, so an entry is whole or
absent; a build that failed leaves nothing behind, and what a killed one left goes with the next. An entry whose files
are no longer those that were written counts as absent, and is built anew. Entries are touched when used; when the
store outgrows its limit, candidates go first, which take seconds to put together again, and of them and of the rest
the least recently used.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from olivine.passes.artifact import ModelArtifact
from olivine.passes.errors import UnwritableCache
from olivine.passes.store.atomic_files import make_folder, remove_stale, staging_folder, sync, sync_tree
from olivine.passes.store.shared_builds import SharedBuilds

DEFAULT_MAX_BYTES = 12_000_000_000
#: An entry used this recently is never evicted: whoever was just given it may not have pinned it yet.
IN_USE_S = 60.0
_BUILDING, _EVICTED = ".building-", ".evicted-"


def cache_root() -> Path:
    """``$OLIVINE_CACHE``, or ``~/.cache/olivine``."""
    return Path(os.environ.get("OLIVINE_CACHE") or "~/.cache/olivine").expanduser()


def check_writable(root: Path) -> None:
    """Make the folder of a cache where it is missing, and write to it.

    Raises:
        UnwritableCache: when that fails.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        raise UnwritableCache(
            f"The cache {root} can't be written: {error.strerror or error}. Name another folder with OLIVINE_CACHE, or "
            "in a study's config with cache: {folder: ...}."
        ) from error


def scratch_folder(name: str) -> AbstractContextManager[Path]:
    """An empty folder below :func:`cache_root` that is gone after the block, or after a kill with the next sweep.

    Raises:
        UnwritableCache: when it can't be made.
    """
    check_writable(cache_root())
    return staging_folder(cache_root() / "scratch", name)


@dataclass(frozen=True)
class Cache:
    """The store below ``root``; ``max_bytes`` bounds its size on disk.

    Attributes:
        root: its folder.
        max_bytes: when it is larger, entries that no process has pinned are dropped before the next one is built.
        remote: builds that machines without a common folder leave for each other.
        pins: entries that are handed out stay pinned until this is closed, or the process ends.
        in_use_s: an entry used within this many seconds stays.
    """

    root: Path
    max_bytes: int = DEFAULT_MAX_BYTES
    remote: SharedBuilds | None = None
    pins: ExitStack | None = field(default=None, compare=False, repr=False)
    in_use_s: float = IN_USE_S

    def model_path(self, key: str) -> Path:
        """Folder of the model of the entry under ``key``, whether it is there or not."""
        return self.root / "artifacts" / key / "model"

    def get(self, key: str) -> ModelArtifact | None:
        """The entry under ``key``, or None where there is none or it is damaged."""
        entry = self.model_path(key).parent
        if self.pins is not None and entry.exists():
            self.pins.enter_context(self.pin(key))
        try:
            about = json.loads((entry / "artifact.json").read_text())
            if not _whole(entry, about):
                return None
            os.utime(entry / "artifact.json")
        except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
            return None
        return ModelArtifact(self.model_path(key), key, frozenset(about["holds"]))

    def put(self, key: str, build: Callable[[Path], frozenset[str]]) -> ModelArtifact:
        """Build the entry under ``key``, once, however many processes ask for it at the same time.

        Args:
            key: hash of everything that the output depends on.
            build: writes the output into the empty folder it is given and returns the properties of it.
        """
        with self._lock(key):
            if (artifact := self.get(key)) is not None:
                return artifact
            self.evict()
            home = self.root / "artifacts"
            self._discard(key)
            staging = Path(tempfile.mkdtemp(prefix=f"{_BUILDING}{key}.", dir=home))
            try:
                (staging / "model").mkdir()
                fetched = self.remote.fetch(key, staging / "model") if self.remote is not None else None
                properties = build(staging / "model") if fetched is None else fetched
                about = {"key": key, "holds": sorted(properties), "files": _states(staging / "model")}
                (staging / "artifact.json").write_text(json.dumps(about, indent=1))
                sync_tree(staging)
                staging.rename(home / key)
                sync(home)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
            if self.remote is not None and fetched is None:
                self.remote.leave(key, home / key / "model", properties)
        return self.get(key) or ModelArtifact(home / key / "model", key, properties)

    @contextmanager
    def pin(self, key: str) -> Iterator[None]:
        """Keep every process from evicting the entry until the block ends, or this process is killed."""
        make_folder(self.root / "locks")
        with (self.root / "locks" / f"{key}.used").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield

    def _pinned(self, key: str) -> bool:
        try:
            with (self.root / "locks" / f"{key}.used").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False

    def evict(self) -> None:
        """Drop entries until the store fits ``max_bytes``: candidates first, then whatever was used least recently.

        Pinned and just used ones stay. An entry is renamed before it is deleted, so that nobody ever sees half of one.
        """
        self.sweep()
        home = self.root / "artifacts"
        with self._lock("evict"):
            now = time.time()
            abouts = home.glob("*/artifact.json")
            entries = [entry for about in abouts if (entry := _entry(about, now)) is not None]
            total = sum(size for _, _, size, _ in entries)
            for _, used, size, folder in sorted(entries):
                if total <= self.max_bytes:
                    break
                if now - used >= self.in_use_s and not self._pinned(folder.name):
                    self._discard(folder.name)
                    total -= size

    def sweep(self) -> None:
        """Delete what processes that were killed had been building, evicting or keeping for themselves."""
        for part in ("scratch", "sha256"):
            remove_stale(self.root / part)
        home = self.root / "artifacts"
        with self._lock("evict"):
            for folder in home.glob(f"{_EVICTED}*"):
                shutil.rmtree(folder, ignore_errors=True)
        for folder in home.glob(f"{_BUILDING}*"):
            key = folder.name.removeprefix(_BUILDING).rpartition(".")[0]
            try:
                with self._lock(key, wait=False):  # held by whoever builds it, and by nobody once that process is gone
                    shutil.rmtree(folder, ignore_errors=True)
            except BlockingIOError:
                continue

    def _discard(self, key: str) -> None:
        """Delete an entry, if it is there."""
        folder = self.root / "artifacts" / key
        gone = folder.with_name(f"{_EVICTED}{key}.{os.getpid()}")
        try:
            folder.rename(gone)
        except FileNotFoundError:
            return
        shutil.rmtree(gone, ignore_errors=True)

    @contextmanager
    def _lock(self, key: str, wait: bool = True) -> Iterator[None]:
        """One builder per key; the lock file stays, since removing it would race."""
        home = self.root / "locks"
        home.mkdir(parents=True, exist_ok=True)
        make_folder(self.root / "artifacts")
        with (home / key).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield


def _states(folder: Path) -> dict[str, list[int]]:
    """Size and time of change of every file in an entry, by which :func:`_whole` knows them again."""
    return {
        str(path.relative_to(folder)): [stat.st_size, stat.st_mtime_ns]
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (stat := path.stat())
    }


def _entry(about: Path, now: float) -> tuple[bool, float, float, Path] | None:
    """Order of eviction of an entry (not a candidate, last use), its bytes and its folder.

    None for what other processes are building or evicting, and for what they take away meanwhile. An entry that was
    used in the future was used before somebody set the clock back: from now on it counts as used now, or it would stay
    till then.
    """
    folder = about.parent
    if folder.name.startswith("."):
        return None
    try:
        size = sum(p.stat().st_size / p.stat().st_nlink for p in folder.rglob("*") if p.is_file())
        if (used := about.stat().st_mtime) > now:
            os.utime(about)
    except FileNotFoundError:
        return None
    return not _is_candidate(about), min(used, now), size, folder


def _is_candidate(about: Path) -> bool:
    """True when an entry is a quantized model; one whose artifact.json can't be read is not."""
    try:
        return "quantized" in json.loads(about.read_text())["holds"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False


def _whole(entry: Path, about: dict[str, Any]) -> bool:
    """True when an entry's files are those that were written; entries of olivine 0.1.0's first days list none."""
    for name, state in about.get("files", {}).items():
        stat = (entry / "model" / name).stat()
        if [stat.st_size, stat.st_mtime_ns] != state:
            return False
    return True
