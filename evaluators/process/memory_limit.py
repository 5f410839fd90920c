"""Limits on the memory of a child: the kernel's bound where it is allowed, and the parent's watch in any case.

1. The resident set counts (VmHWM): weights that are mapped from a file are part of it. The parent reads it
   many times a second and ends the child that has passed its limit.
2. A child may grow faster than that. Behind the limit, with some room, stands a control group, which the kernel keeps;
   where none may be made, a limit on private memory (RLIMIT_DATA), at which allocations fail.
3. Without any limit the machine still has to live: when nearly no memory is left, the child that holds much of it goes.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from olivine.evaluators.process import procfs
from olivine.evaluators.process.cgroup import MemoryGroup
from olivine.passes.errors import Excess

#: How often memory is read, with a limit and without one.
POLL_S = 0.05
CALM_POLL_S = 0.1
#: Room behind the limit for what no resident set holds, such as pages of files that are written.
_ROOM = 1.25
#: Private memory that is mapped and never touched: heaps of threads, reserved arenas.
UNTOUCHED = 1_000_000_000
#: Memory that the machine keeps: this share, within these bounds.
_RESERVE_SHARE, _RESERVE_LEAST, _RESERVE_MOST = 0.03, 250_000_000, 1_000_000_000


@dataclass
class MemoryWatch:
    """The memory of one child.

    Attributes:
        pid: the child.
        limit: bytes that it may hold; None for as much as the machine can spare.
        group: its control group, where there is a limit and one may be made.
        rss_bytes, peak_rss_bytes: readings of a process.
        available_bytes, total_bytes: readings of the machine.
        peak: the most that it was seen to hold.
    """

    pid: int
    limit: int | None
    group: MemoryGroup | None = None
    rss_bytes: Callable[[int], int] = procfs.rss_bytes
    peak_rss_bytes: Callable[[int], int] = procfs.peak_rss_bytes
    available_bytes: Callable[[], int] = procfs.available_bytes
    total_bytes: Callable[[], int] = procfs.total_bytes
    peak: int = 0

    @classmethod
    def start(
        cls,
        pid: int,
        limit: int | None,
        make_group: Callable[[int], MemoryGroup | None] = MemoryGroup.create,
        untouched: int = UNTOUCHED,
    ) -> Self:
        """Bound a child that has just been started.

        Args:
            pid: the child.
            limit: as the attribute.
            make_group: makes a control group with so many bytes, or None where none may be made.
            untouched: private memory that the child may map beyond the limit, where there is no group.
        """
        if limit is None:
            return cls(pid, None)
        group = make_group(int(limit * _ROOM))
        if group is not None and group.add(pid):
            return cls(pid, limit, group)
        if group is not None:
            group.close()
        bound = int(limit * _ROOM) + untouched
        try:
            resource.prlimit(pid, resource.RLIMIT_DATA, (bound, bound))
        except (OSError, ValueError):  # gone already, or a lower hard limit is set: then that one holds
            return cls(pid, limit)
        return cls(pid, limit)

    @property
    def poll_s(self) -> float:
        """Seconds between two looks."""
        return CALM_POLL_S if self.limit is None else POLL_S

    def excess(self) -> Excess | None:
        """Memory that the child holds beyond its limit, or beyond what the machine can spare; or None."""
        self.peak = max(self.peak, self.peak_rss_bytes(self.pid))
        if self.limit is not None and self.peak > self.limit:
            return Excess(self.peak, self.limit)
        reserve, held = self.reserve_bytes(), self.rss_bytes(self.pid)
        if held > reserve and (left := self.available_bytes()) < reserve:
            return Excess(held, held - reserve + left, left)
        return None

    def room(self) -> int:
        """Bytes that the child may still take, by its limit and by what the machine can spare."""
        spare = self.available_bytes() - self.reserve_bytes()
        if self.limit is not None:
            spare = min(spare, self.limit - self.rss_bytes(self.pid))
        return max(0, spare)

    def killed(self) -> Excess | None:
        """Memory for which the kernel ended the child; None where it did not."""
        if self.group is None or self.limit is None or not self.group.killed():
            return None
        return Excess(max(self.peak, self.group.peak_bytes(), self.limit + 1), self.limit)

    def reserve_bytes(self) -> int:
        """Bytes that are left to the machine, whatever the child would like."""
        return int(min(max(self.total_bytes() * _RESERVE_SHARE, _RESERVE_LEAST), _RESERVE_MOST))

    def close(self) -> None:
        """Remove the control group; the child is gone."""
        if self.group is not None:
            self.group.close()
