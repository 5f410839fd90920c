"""Scheduling of a model's process while it is timed: the place of its memory, its priority, its cores.

Five things made two processes of one model differ, or one from itself, measured on a shared machine with 2 cores
(results/numbers.md):

1. Memory. A process gets the pages that others freed last, scattered ones first; the translation of their
   addresses costs 2 to 5 % of decode for as long as the process lives. Weights on huge pages do not differ.
2. The other model. Its threads spin after their last work and take the cores; a stopped process takes none.
3. Other programs. A process of higher priority is rarely interrupted by them.
4. Memory that comes and goes. Freed memory went back to the kernel and from there, on a virtual machine, to its
   host; a prompt that had to fetch its 25 MB of logits from there took 395 ms and not 345, one in three of them.
   A process that keeps what it freed, and has touched it before it is timed, has no such prompts.
5. Cores. One is faster than the other for a while, by whoever else uses it. With one thread, two visits on one
   core differ by half of what they differ by where the kernel puts them.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: Puts all of a process's heap, weights included, on huge pages where the kernel has them on request: glibc then
#: asks for them (madvise), and takes no small mappings of their own for single weights, which would not fill any.
#: One arena, since each keeps freed memory to itself; and what is freed stays with the process, until it is trimmed.
#: Source: glibc manual, "Memory Allocation Tunables".
STEADY_MEMORY = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.arena_max=1:"
    f"glibc.malloc.trim_threshold={1 << 48}"
}
#: As nice(2) has it: a process of this niceness gets 68 times the time of a usual one; and what this process runs with.
FIRST = -19
USUAL = os.getpriority(os.PRIO_PROCESS, 0)
_PR_SET_PDEATHSIG = 1
#: Loaded before any fork.
_LIBC = ctypes.CDLL(None)


def stop(pid: int) -> None:
    """Let a process and those it started stand still, spinning threads too."""
    os.killpg(pid, signal.SIGSTOP)


def go_on(pid: int) -> None:
    """Let them run again from where they stopped."""
    os.killpg(pid, signal.SIGCONT)


@contextmanager
def prompt_thread() -> Iterator[None]:
    """Meanwhile the calling thread, which only asks and waits, goes first, where we may: no process waits for it."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, FIRST)
    except OSError:  # no right to it
        yield
        return
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)


def set_niceness(pid: int, niceness: int) -> bool:
    """Set the niceness of all threads of a process; False where that needs rights that we don't have.

    A process that leads a session is weighed against others by its session's niceness where the kernel groups
    by session (sched(7), "The autogroup feature"), so that is set as well.
    """
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with suppress(ProcessLookupError):  # a thread that has just ended
                os.setpriority(os.PRIO_PROCESS, int(task), niceness)
        autogroup = Path(f"/proc/{pid}/autogroup")
        if autogroup.exists():
            autogroup.write_text(str(niceness))
    except OSError:  # no right to it, or no such process any more
        return False
    return True


def pin(pid: int, cores: Collection[int]) -> None:
    """Let the first thread of a process run on these cores alone, where the system can pin threads."""
    if hasattr(os, "sched_setaffinity"):
        with suppress(ProcessLookupError):  # it has just ended, as whoever asks it next is told
            os.sched_setaffinity(pid, cores)


def own_cores() -> list[int]:
    """Cores that this process may run on; none where the system doesn't say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def die_with_parent() -> None:
    """Let the kernel end this process when the thread that started it ends, also while it stands still.

    It holds over an exec, so it may be asked for between fork and exec.
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
