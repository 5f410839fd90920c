"""The child side of :mod:`olivine.evaluators.latency.core_distance`: writes shared memory on the core that it is told.

A byte on stdin wakes it. Each side has one byte of the memory to itself: the parent the number of what it asks for, the
child the number of what it has done last. Standard library alone.
"""

from __future__ import annotations

import mmap
import os
import sys
import time

from olivine.evaluators.process.lifecycle import begin

#: Bytes that are written, and where behind them lies what the two sides tell each other.
BLOCK = 1 << 15
ASKED, DONE, CORE, SHARED_BYTES = BLOCK, BLOCK + 64, BLOCK + 128, BLOCK + 4096
#: Asked for where nothing more is; other requests have smaller numbers, from 1.
STOP = 255


def serve(shared: mmap.mmap, patience_s: float) -> None:
    """Write the block as often as asked, until told to stop or nobody has asked for so many seconds."""
    block, core = bytes(BLOCK), b""
    deadline = time.monotonic() + patience_s
    while (asked := shared[ASKED]) != STOP and time.monotonic() < deadline:
        if asked != shared[DONE]:
            if core != shared[CORE : CORE + 4]:
                core = shared[CORE : CORE + 4]
                os.sched_setaffinity(0, {int.from_bytes(core, "little")})
            shared[:BLOCK] = block
            shared[DONE] = asked
            deadline = time.monotonic() + patience_s
    if asked == STOP:
        shared[DONE] = STOP


def main() -> None:
    """Serve until the parent closes the pipe."""
    begin()
    handle, patience_s = int(sys.argv[3]), float(sys.argv[4])
    with mmap.mmap(handle, SHARED_BYTES) as shared:
        while os.read(0, 1):
            serve(shared, patience_s)


if __name__ == "__main__":
    main()
