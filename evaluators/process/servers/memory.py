"""Commands about the memory of a model process."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np

from olivine.evaluators.process.gpu import used_bytes
from olivine.evaluators.process.messages import Done, ProcessStats

#: Prompts' logits that a process keeps room for, so that no prompt waits for memory, and the most bytes of it.
RESERVED_LOGITS, MOST_RESERVED = 4, 256 << 20


class MemoryServer:
    """The commands that every server has.

    A command is a method: its keyword arguments are those of the request, and it returns the answer.
    """

    def __init__(self) -> None:
        self.scored = False
        self.on_gpu = False
        self.gpu_before: int | None = None
        self.vocab_size = 0

    def reserve(self, tokens: int, most: int) -> Done:
        """Touch memory for the logits of prompts of so many tokens and free it: it stays with the process; 0 trims."""
        if tokens == 0:
            trim()
        wanted = RESERVED_LOGITS * 4 * tokens * self.vocab_size
        touched = 0 if self.on_gpu else min(wanted, MOST_RESERVED, most)
        np.ones(touched, dtype=np.uint8)
        return Done(touched == wanted)

    def reset_peak(self) -> Done:
        """Let VmHWM start anew (proc(5), clear_refs)."""
        trim()
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return Done(False)
        return Done(True)

    def stats(self) -> ProcessStats:
        """Memory of this process."""
        fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        resident, peak = (int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
        return ProcessStats(resident, peak, self.scored, self._gpu_bytes())

    def _gpu_bytes(self) -> int | None:
        """Bytes that the device holds beyond those before the model was loaded."""
        now = used_bytes() if self.gpu_before is not None else None
        return None if now is None or self.gpu_before is None else now - self.gpu_before


def trim(but: int = 0) -> None:
    """Give free memory back to the kernel, but for so many bytes, where the C library can (malloc_trim(3))."""
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if give_back is not None:
        give_back(ctypes.c_size_t(but))
