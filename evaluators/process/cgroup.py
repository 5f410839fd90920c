"""Control groups: a bound on the memory of a child and of all that it starts, kept by the kernel (cgroups(7)).

Where they are allowed (as root, in most containers, in a delegated systemd slice) a child that allocates faster than
the watch looks is stopped by the kernel before the machine feels it. Where they are not, :meth:`MemoryGroup.create`
returns None.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

_NAME = re.compile(r"^olivine-(\d+)-\d+$")
_numbers = count()
#: The kernel's account of this process: the groups it is in, and where they are mounted.
PROC = Path("/proc/self")


@dataclass(frozen=True)
class _Files:
    """Names of the files of a group."""

    limit: str
    swap: str
    peak: str
    events: str


_V1 = _Files("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control")
_V2 = _Files("memory.max", "memory.swap.max", "memory.peak", "memory.events")


@dataclass(frozen=True)
class MemoryGroup:
    """A group of processes with a memory limit; made by :meth:`create`, removed by :meth:`close`."""

    folder: Path
    files: _Files

    @classmethod
    def create(cls, limit_bytes: int, proc: Path = PROC) -> MemoryGroup | None:
        """Make a group below our own; None where the system does not allow it."""
        own = _own(proc)
        if own is None:
            return None
        home, files = own
        group = cls(home / f"olivine-{os.getpid()}-{next(_numbers)}", files)
        try:
            if files is _V2:
                with suppress(OSError):  # the controller may be on already, or we may not; the limit below tells
                    (home / "cgroup.subtree_control").write_text("+memory")
            group.folder.mkdir()
            (group.folder / files.limit).write_text(str(limit_bytes))
        except OSError:
            group.close()
            return None
        with suppress(OSError):  # a kernel without swap accounting has no such file
            (group.folder / files.swap).write_text(str(limit_bytes if files is _V1 else 0))
        return group

    def add(self, pid: int) -> bool:
        """Put a process into the group; False where the system does not allow it."""
        try:
            (self.folder / "cgroup.procs").write_text(str(pid))
        except OSError:
            return False
        return True

    def killed(self) -> bool:
        """Tell whether the kernel has ended a process of the group for want of memory."""
        for line in self._read(self.files.events).splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value) > 0
        return False

    def peak_bytes(self) -> int:
        """The most that the group ever held, file pages included; 0 where the kernel does not say."""
        text = self._read(self.files.peak).strip()
        return int(text) if text.isdigit() else 0

    def close(self) -> None:
        """Remove the group; its processes have to be gone."""
        with suppress(OSError):  # one that still ends keeps it for a moment: the next sweep removes it
            self.folder.rmdir()

    def _read(self, name: str) -> str:
        try:
            return (self.folder / name).read_text()
        except OSError:
            return ""


def sweep(proc: Path = PROC) -> None:
    """Remove groups that processes of ours which are gone have left."""
    own = _own(proc)
    if own is None:
        return
    for folder in own[0].glob("olivine-*"):
        match = _NAME.match(folder.name)
        if match and not Path(f"/proc/{match[1]}").exists():
            with suppress(OSError):  # somebody is still in it
                folder.rmdir()


def _own(proc: Path) -> tuple[Path, _Files] | None:
    """The group that this process is in, and its version; None without a memory controller."""
    mounts, groups = proc / "mountinfo", proc / "cgroup"
    if not mounts.exists() or not groups.exists():
        return None
    hierarchies = _mounted(mounts.read_text())
    for line in groups.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for name in ("memory", ""):
            if name not in controllers.split(",") or name not in hierarchies:
                continue
            home, files = _below(*hierarchies[name], path), _V1 if name else _V2
            if home.is_dir() and (files is _V1 or "memory" in (home / "cgroup.controllers").read_text().split()):
                return home, files
    return None


def _mounted(mounts: str) -> dict[str, tuple[str, Path]]:
    """Hierarchy (``memory`` of version 1, or nothing for version 2) -> the part that is mounted, and the place."""
    hierarchies = {}
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        root, place = before.split()[3:5]
        if kind == "cgroup2":
            hierarchies[""] = (root, Path(place))
        elif kind == "cgroup" and "memory" in options.split(","):
            hierarchies["memory"] = (root, Path(place))
    return hierarchies


def _below(root: str, place: Path, path: str) -> Path:
    """Folder of the group ``path``, in a hierarchy of which the part from ``root`` on is mounted at ``place``."""
    inside = Path(path).is_relative_to(root)
    return place / (Path(path).relative_to(root) if inside else path.lstrip("/"))
