"""What a power loss may leave: a model of a disk that keeps only what was synced.

POSIX promises a file's bytes after fsync of the file and a folder's names after fsync of the folder, and nothing of
the rest. ``os.fsync`` is watched; :meth:`Disk.after_power_loss` then makes the folder anew from what was synced, in
the two ways in which file systems fail people: nothing else has arrived, or all names have and their bytes have not.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Literal

import pytest


class Disk:
    """Watches what is synced below ``root``; whatever is there at the start is on the disk."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.syncs = 0
        self._bytes: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._held: dict[int, int] = {}
        for place, _, names in os.walk(root):
            for path in (place, *(os.path.join(place, name) for name in names)):
                self._keep(os.open(path, os.O_RDONLY))
        self._fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self._watched)

    def _watched(self, descriptor: int) -> None:
        self._fsync(descriptor)
        self._keep(os.dup(descriptor))
        self.syncs += 1

    def _keep(self, descriptor: int) -> None:
        """Remember what a file or folder holds now; it stays open, so that its inode is not given away again."""
        path, found = Path(f"/proc/self/fd/{descriptor}"), os.fstat(descriptor)
        self._held.setdefault(found.st_ino, descriptor)
        if stat.S_ISDIR(found.st_mode):
            self._names[found.st_ino] = {name: os.stat(path / name).st_ino for name in os.listdir(path)}
        else:
            self._bytes[found.st_ino] = path.read_bytes()

    def after_power_loss(self, to: Path, arrived: Literal["nothing else", "all names"]) -> Path:
        """The folder as it is found after the power is back, in the new folder ``to``."""
        shutil.rmtree(to, ignore_errors=True)
        if arrived == "nothing else":
            self._rebuild(self.root.stat().st_ino, to)
        else:
            shutil.copytree(self.root, to)
            for path in (p for p in self.root.rglob("*") if p.is_file()):
                (to / path.relative_to(self.root)).write_bytes(self._bytes.get(path.stat().st_ino, b""))
        return to

    def _rebuild(self, folder: int, to: Path) -> None:
        to.mkdir(parents=True)
        for name, inode in self._names.get(folder, {}).items():
            if inode in self._names or stat.S_ISDIR(self._mode(inode)):
                self._rebuild(inode, to / name)
            else:
                (to / name).write_bytes(self._bytes.get(inode, b""))

    def _mode(self, inode: int) -> int:
        return os.fstat(self._held[inode]).st_mode if inode in self._held else stat.S_IFREG

    def close(self) -> None:
        """Let go of all files."""
        for descriptor in self._held.values():
            os.close(descriptor)
