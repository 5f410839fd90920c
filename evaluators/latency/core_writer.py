"""The child side of :mod:`olivine.evaluators.latency.core_distance`: writes shared memory on a given core.

A byte on stdin wakes it. Each side has one byte of the memory to itself: the parent the number of its last request, the
child the number of the last one that it has done. Standard library alone.
"""

from __future__ import annotations

import mmap
import os
import sys
import time

from olivine.evaluators.process.lifecycle import begin

#: Bytes that are written, and behind them the places of the two sides' messages.
BLOCK = 1 << 15
ASKED, DONE, CORE, SHARED_BYTES = BLOCK, BLOCK + 64, BLOCK + 128, BLOCK + 4096
#: Asked for where nothing more is; other requests have smaller numbers, from 1.
STOP = 255


def serve(shared: mmap.mmap, patience_s: float) -> None:
    """Write the block at every request, until one says stop or none has come for so many seconds."""
    block, core = bytes(BLOCK), b""
    deadline = time.monotonic() + patience_s
    while (request := shared[ASKED]) != STOP and time.monotonic() < deadline:
        if request != shared[DONE]:
            if core != shared[CORE : CORE + 4]:
                core = shared[CORE : CORE + 4]
                os.sched_setaffinity(0, {int.from_bytes(core, "little")})
            shared[:BLOCK] = block
            shared[DONE] = request
            deadline = time.monotonic() + patience_s
    if request == STOP:
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
