"""Commands about the memory of a model process, answered by servers/memory.py."""

from __future__ import annotations

from olivine.evaluators.process.connection import Connection
from olivine.evaluators.process.messages import Done, ProcessStats


class MemoryCommands:
    """The commands that every model process has."""

    _connection: Connection

    def reserve(self, tokens: int) -> bool:
        """Hold memory for the logits of prompts of so many tokens, so that none waits for it; 0 gives it back.

        Returns:
            Whether all of it is held: at most half of what the process may still take is, and nothing on a GPU.
        """
        return self._connection.request(Done, "reserve", tokens=tokens, most=self._connection.memory.room() // 2).done

    def reset_peak(self) -> bool:
        """Let the peak start anew from what is resident now; False where the kernel does not allow it."""
        return self._connection.request(Done, "reset_peak").done

    def stats(self) -> ProcessStats:
        """Memory of the process."""
        return self._connection.request(ProcessStats, "stats")
