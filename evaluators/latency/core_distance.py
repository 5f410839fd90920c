"""Distance of the cores from each other, which changes under a virtual machine while it runs.

A host may run the virtual cores of one machine side by side on a chip, or on two chips, and moves them between the
two within seconds to minutes. Side by side they hand data to each other three times as fast; apart they have more
bandwidth to memory. Models of several threads do not move alike then: on 2 cores of an AMD EPYC a float32 model
decodes in 19.4 and 16.1 ms a token, its int4 form in 4.6 and 5.1 (results/numbers.md). The kernel of the virtual
machine knows nothing of it; memory that another core has just written tells it.
"""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np

from olivine.evaluators.latency.core_writer import ASKED, BLOCK, CORE, DONE, SHARED_BYTES, STOP
from olivine.evaluators.process.bootstrap import child_command, child_environment
from olivine.evaluators.process.lifecycle import close_pipes, end_group
from olivine.evaluators.process.scheduling import FIRST, set_niceness

#: Times that a block is handed over for one reading, and pairs of cores at most.
HANDOVERS = 9
MAX_PAIRS = 8
#: Longest that a side waits for the other one.
PATIENCE_S = 0.05
_LINE = 64


def partners(cores: Sequence[int]) -> list[int]:
    """The cores that write for the first one: all others, or ``MAX_PAIRS`` of them, evenly spread."""
    others = cores[1:]
    places = np.linspace(0, len(others) - 1, min(len(others), MAX_PAIRS))
    return [others[round(place)] for place in places]


class CoreDistance:
    """Measures the time to read memory that another core has just written, over the time to read it again.

    Side by side on one chip that is 1.6 times as long, on two chips 5 times (AMD EPYC, 2 virtual cores). It is a ratio
    of two times taken at once, so clocks and other programs hardly move it.
    """

    def __init__(self, cores: Sequence[int], patience_s: float = PATIENCE_S) -> None:
        """Start the process that writes; the caller reads.

        Args:
            cores: that the models under test may run on; at least two.
            patience_s: longest that a side waits for the other one.

        Raises:
            OSError: where the system lets no memory be shared (memfd_create(2)) or no process start.
        """
        self._reader, self._writers = cores[0], partners(cores)
        self._patience_s = patience_s
        self._asked = 0
        handle = os.memfd_create("olivine-cores")
        try:
            os.ftruncate(handle, SHARED_BYTES)
            self._shared = mmap.mmap(handle, SHARED_BYTES)
            self._process = subprocess.Popen(
                child_command(sys.executable, "latency.core_writer", str(handle), str(patience_s)),
                stdin=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # its end is all that matters
                start_new_session=True,
                pass_fds=[handle],
                env=child_environment(),
            )
        finally:
            os.close(handle)
        set_niceness(self._process.pid, FIRST)
        self._block = np.frombuffer(self._shared, dtype=np.int64, count=BLOCK // 8)
        lines = BLOCK // _LINE
        # In no order that the hardware could guess.
        self._order = np.random.default_rng(0).permutation(lines) * (_LINE // 8)
        self._sink = np.empty(lines, dtype=np.int64)

    @classmethod
    def start(cls, cores: Sequence[int]) -> CoreDistance | None:
        """Start one for these cores; None where there is one core, or the system does not allow it."""
        if len(cores) < 2 or not hasattr(os, "memfd_create"):
            return None
        try:
            return cls(cores)
        except OSError:  # refused, as sandboxes do
            return None

    @property
    def pid(self) -> int:
        """Process id of the writer."""
        return self._process.pid

    def measure(self) -> float | None:
        """Time to read memory that another core has written over the time to read it again: mean over pairs of cores.

        Nothing else should run meanwhile: some 0.3 ms for two cores. None where a core did not answer in time, the
        writer has ended, or a core may not be used any more.
        """
        ratios = list[float]()
        own = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, {self._reader})
            for core in self._writers:
                if (ratio := self._pair(core)) is None:
                    return None
                ratios.append(ratio)
        except OSError:  # the writer's pipe is broken, or the core was taken from us
            return None
        finally:
            os.sched_setaffinity(0, own)
        return float(np.mean(ratios))

    def _pair(self, core: int) -> float | None:
        """The ratio for memory that one core writes."""
        if self._process.poll() is not None:
            return None
        self._shared[CORE : CORE + 4] = core.to_bytes(4, "little")
        first, again = list[int](), list[int]()
        self._ask()
        assert self._process.stdin is not None
        self._process.stdin.write(b"x")
        self._process.stdin.flush()
        answered = self._answered()
        while answered and len(first) < HANDOVERS:
            self._ask()
            if answered := self._answered():
                first.append(self._read())
                again.append(self._read())
        self._shared[ASKED] = STOP
        if not answered or not self._answered():
            return None
        return float(np.median(first) / np.median(again))

    def _ask(self) -> None:
        """Ask for the block once more."""
        self._asked = self._asked % (STOP - 1) + 1
        self._shared[ASKED] = self._asked

    def _answered(self) -> bool:
        """Spin until the last request is done; False when it takes too long."""
        deadline = time.monotonic() + self._patience_s
        while self._shared[DONE] != self._shared[ASKED]:
            if time.monotonic() > deadline:
                return False
        return True

    def _read(self) -> int:
        """Nanoseconds to read a word of every line."""
        started = time.perf_counter_ns()
        self._block.take(self._order, out=self._sink, mode="clip")
        return time.perf_counter_ns() - started

    def close(self) -> None:
        """End the writer; the shared memory goes with this object."""
        end_group(self._process)
        close_pipes(self._process.stdin)
