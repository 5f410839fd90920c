"""Content-addressed store of pass outputs, safe for several processes, evicted by size.

An entry is a folder named by its key. It is built aside and renamed into place, so an entry is whole or absent;
a build that failed leaves nothing behind. Entries are touched when used, and the least recently used go first
when the store outgrows its limit.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from olivine.passes.artifact import ModelArtifact, write_atomic

DEFAULT_MAX_BYTES = 12_000_000_000
#: An entry used this recently is never evicted: a study may hold it open.
IN_USE_S = 3600.0


def cache_root() -> Path:
    """``$OLIVINE_CACHE``, or ``~/.cache/olivine``."""
    return Path(os.environ.get("OLIVINE_CACHE") or Path.home() / ".cache" / "olivine")


@dataclass(frozen=True)
class Cache:
    """The store below ``root``; ``max_bytes`` bounds its size on disk."""

    root: Path
    max_bytes: int = DEFAULT_MAX_BYTES

    def get(self, key: str) -> ModelArtifact | None:
        """The entry under ``key``, or None."""
        entry = self.root / "artifacts" / key
        try:
            about = json.loads((entry / "artifact.json").read_text())
        except FileNotFoundError:
            return None
        os.utime(entry / "artifact.json")
        return ModelArtifact(entry / "model", key, frozenset(about["holds"]))

    def put(self, key: str, build: Callable[[Path], frozenset[str]]) -> ModelArtifact:
        """Build the entry under ``key``, once, however many processes ask for it at the same time.

        Args:
            key: hash of everything that the output depends on.
            build: writes the output into the empty folder it is given and returns the facts that hold of it.
        """
        with self._lock(key):
            if (found := self.get(key)) is not None:
                return found
            self.evict()
            home = self.root / "artifacts"
            aside = Path(tempfile.mkdtemp(prefix=".building-", dir=home))
            try:
                (aside / "model").mkdir()
                holds = build(aside / "model")
                write_atomic(aside / "artifact.json", json.dumps({"key": key, "holds": sorted(holds)}, indent=1))
                aside.rename(home / key)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        return ModelArtifact(home / key / "model", key, holds)

    def evict(self) -> None:
        """Drop least recently used entries until the store fits ``max_bytes``; recently used ones stay.

        An entry is renamed before it is deleted, so that nobody ever sees half of one; what a killed process was
        building goes too.
        """
        home = self.root / "artifacts"
        with self._lock("evict"):
            for left in [*home.glob(".building-*"), *home.glob(".evicted-*")]:
                if time.time() - left.stat().st_mtime > IN_USE_S:
                    shutil.rmtree(left)
            entries = []
            for about in home.glob("*/artifact.json"):
                size = sum(p.stat().st_size / p.stat().st_nlink for p in about.parent.rglob("*") if p.is_file())
                entries.append((about.stat().st_mtime, size, about.parent))
            total = sum(size for _, size, _ in entries)
            for used, size, folder in sorted(entries):
                if total <= self.max_bytes or time.time() - used < IN_USE_S:
                    break
                gone = folder.rename(folder.with_name(f".evicted-{folder.name}"))
                shutil.rmtree(gone)
                total -= size

    @contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        """One builder per key; the lock file stays, since removing it would race."""
        home = self.root / "locks"
        home.mkdir(parents=True, exist_ok=True)
        (self.root / "artifacts").mkdir(parents=True, exist_ok=True)
        with (home / key).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
