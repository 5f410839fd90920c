"""What a command takes: its time, and the peak memory of all its processes together.

Anonymous memory is what a process has written to and only swapping could take from it. Resident memory also has the
pages of mapped files, which the kernel drops when it needs the room; pages that two processes share count twice.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

POLL_S = 0.1


@dataclass(frozen=True)
class Footprint:
    """What a command took; memory is the largest sum over processes that was seen.

    Attributes:
        seconds: from start to end.
        anonymous_bytes: memory that belongs to no file.
        resident_bytes: all that was resident, as each process counts it.
        shared_bytes: the same, with pages that several processes map counted once.
    """

    seconds: float
    anonymous_bytes: int
    resident_bytes: int
    shared_bytes: int


class Watch:
    """Polls the memory of a process and all below it while the ``with`` block runs.

    Counting shared pages walks through all of them, which would slow what is watched. So that is done only where the
    kernel's own counters, which count a shared page for each process, exceed what was seen before.
    """

    def __init__(self, pid: int, more: Callable[[], bool] = lambda: True) -> None:
        self._root, self._more = psutil.Process(pid), more
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self.anonymous_bytes = self.resident_bytes = self.shared_bytes = 0

    def _poll(self) -> None:
        while not self._end.wait(POLL_S) and self._more():
            try:
                family = [self._root, *self._root.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            anonymous, resident = (sum(column) for column in zip(*(at_most(p.pid) for p in family), strict=True))
            if anonymous <= self.anonymous_bytes and resident <= self.resident_bytes:
                continue
            found = [memory(process.pid) for process in family]
            totals = [sum(column) for column in zip(*found, strict=True)]
            self.anonymous_bytes = max(self.anonymous_bytes, totals[0])
            self.resident_bytes = max(self.resident_bytes, totals[1])
            self.shared_bytes = max(self.shared_bytes, totals[2])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()


def at_most(pid: int) -> tuple[int, int]:
    """(anonymous, resident) bytes of a process now, pages that it shares included; nothing where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon", "VmRSS"))}
    return sizes.get("RssAnon", 0), sizes.get("VmRSS", 0)


def memory(pid: int) -> tuple[int, int, int]:
    """(anonymous, resident, proportional) bytes of a process now; nothing where it has ended.

    The proportional set size divides each page by the processes that map it (proc(5), smaps_rollup). Anonymous pages
    that a fork shares with its parent are divided as well, so that they count once.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0, 0
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    if not sizes:  # it has ended and is not waited for yet
        return 0, 0, 0
    return sizes["Pss_Anon"], sizes["Rss"], sizes["Pss"]


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Footprint:
    """Run a command to its end.

    Raises:
        subprocess.CalledProcessError: when it fails, with what it said.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        env=None if environment is None else dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    with Watch(process.pid) as watch:
        said, _ = process.communicate()
    seconds = time.perf_counter() - start
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, said)
    return Footprint(seconds, watch.anonymous_bytes, watch.resident_bytes, watch.shared_bytes)
