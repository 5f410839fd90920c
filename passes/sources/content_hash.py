"""Identity of a file, whatever it is called: SHA-256 of all its bytes, remembered while the file does not change.

Samples of a file would miss a change to one layer, so every byte counts. Reading 16 GB at each start would be
slow, so the hash of a large file is kept below ``cache_root()/sha256`` under path, inode, size and time of
change, as git does with its index. A file changed within the last two seconds is not remembered: clocks of
file systems tick coarsely, and a second change in the same tick would go unseen.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from olivine.passes.store.atomic_files import write_atomic
from olivine.passes.store.cache import cache_root
from olivine.passes.store.digests import digest, sha256_file

_SMALL_BYTES = 4_000_000
_SETTLED_S = 2.0


def content_sha256(path: Path, small_bytes: int = _SMALL_BYTES) -> str:
    """SHA-256 of the file's bytes, as hex; from memory where a file larger than ``small_bytes`` has not changed."""
    before = path.stat()
    if before.st_size <= small_bytes:
        return sha256_file(path)
    memory = cache_root() / "sha256" / digest([str(path.resolve()), *_state(before)])
    if memory.exists():
        return memory.read_text()
    sha256 = sha256_file(path)
    settled = time.time() - before.st_mtime > _SETTLED_S
    if settled and _state(path.stat()) == _state(before):
        write_atomic(memory, sha256)
    return sha256


def files_digest(files: Iterable[Path]) -> str:
    """One hash over names and contents of files that lie in one folder."""
    return digest(sorted([file.name, content_sha256(file)] for file in files))


def _state(stat: os.stat_result) -> tuple[int, int, int, int]:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
