"""ModelProcess: a loaded model in a process of its own.

The study process loads no model. Whatever a model does to its process (crash, hang, eat the memory) costs
that process alone, and arrives here as one error that says what happened. Its commands are methods of the same name on
both sides of the pipe: in ``commands/`` on this side, in ``servers/`` on the other one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from olivine.evaluators.process import scheduling
from olivine.evaluators.process.bootstrap import child_command
from olivine.evaluators.process.commands.decoder import DecoderCommands
from olivine.evaluators.process.commands.graph import GraphCommands
from olivine.evaluators.process.commands.memory import MemoryCommands
from olivine.evaluators.process.connection import Connection
from olivine.evaluators.process.failure import ModelProcessFailed
from olivine.evaluators.process.messages import Loaded

#: Runtime of a model; see :meth:`ModelProcess.start`.
Loop = Literal["genai", "session", "graph"]


class ModelProcess(MemoryCommands, DecoderCommands, GraphCommands):
    """A model process; make one with :meth:`start` (the model comes later) or :meth:`open`."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        loop: Loop = "genai",
        python: str | Path = sys.executable,
        adapter: Path | None = None,
    ) -> None:
        self._connect = connect
        self.adapter = adapter
        self.loop: Loop = loop
        self.python = str(python)
        self._connection = connect()
        self._holds_model = False
        self.load_seconds = 0.0
        self.folder: Path | None = None
        self.loaded: Loaded | None = None

    @classmethod
    def start(
        cls,
        python: str | Path = sys.executable,
        timeout_s: float = 300.0,
        memory_limit_bytes: int | None = None,
        loop: Loop = "genai",
        adapter: Path | None = None,
    ) -> ModelProcess:
        """Start a process that imports its libraries at once and waits for a model.

        It ends with the thread that starts it.

        Args:
            python: the interpreter; each flavour of ONNX Runtime needs an environment of its own.
            timeout_s: longest wait for the answer to one request; the process is killed after it.
            memory_limit_bytes: the process is killed when its resident set outgrows this.
            loop: runtime of the model: ONNX Runtime GenAI, or the same loop in a plain session where the interpreter
                can't hold GenAI beside its ONNX Runtime; ``graph`` for a graph that is no decoder.
            adapter: file of a LoRA adapter that is active in all that the model does; None for the model alone.
        """
        command = child_command(python, "process.server", loop)
        return cls(partial(Connection, command, timeout_s, memory_limit_bytes), loop, python, adapter)

    @classmethod
    def open(cls, folder: Path, **options: Any) -> ModelProcess:
        """Start a process and load ``folder``; the options are those of :meth:`start`."""
        process = cls.start(**options)
        try:
            process.load(folder)
        except BaseException:
            process.close()
            raise
        return process

    def sibling(self) -> ModelProcess:
        """Start a further process with the same options, without a model."""
        return ModelProcess(self._connect, self.loop, self.python, self.adapter)

    @property
    def pid(self) -> int:
        """Process id of the child, which leads a process group of the same id."""
        return self._connection.pid

    @property
    def timeout_s(self) -> float:
        """Longest wait for the answer to one request."""
        return self._connection.timeout_s

    @property
    def memory_limit_bytes(self) -> int | None:
        """Bytes that the process may hold; None for as much as the machine can spare."""
        return self._connection.memory.limit

    @property
    def alive(self) -> bool:
        """True while the process runs."""
        return self._connection.alive

    @property
    def usable(self) -> bool:
        """True while it can take a request: also when it waits for a first model, but not when it has lost its own."""
        return self._connection.open and (self.folder is None or self._holds_model)

    @property
    def vocab_size(self) -> int:
        """Number of token ids of the loaded model."""
        if self.loaded is None:
            raise ModelProcessFailed("error", "A model process without a model has no vocabulary; load one first")
        return self.loaded.vocab_size

    @property
    def threads(self) -> int:
        """Threads of the loaded model, 0 for as many as there are cores; one where its folder does not say."""
        if self.loaded is None or self.loaded.threads is None:
            return 1
        return self.loaded.threads

    def load(self, folder: Path) -> Loaded:
        """Load the model in ``folder``; a process holds one model in its life.

        Raises:
            ModelProcessFailed: of kind ``provider`` when the provider that genai_config.json asks for would not run.
        """
        self.folder = self._connection.model = Path(folder)
        started = time.monotonic()
        active: dict[str, Any] = {} if self.adapter is None else {"adapter": str(self.adapter.resolve())}
        self.loaded = self._connection.request(Loaded, "load", folder=str(self.folder.resolve()), **active)
        self.load_seconds = time.monotonic() - started
        self._holds_model = True
        return self.loaded

    def restart(self) -> None:
        """Start a fresh process in place of this one; :meth:`reload` gives it the model back.

        A process is fast or slow by where its memory and its code lie, for as long as it lives; a fresh one draws anew.
        """
        self.close()
        self._holds_model = False
        self._connection = self._connect()
        self._connection.model = self.folder

    def reload(self) -> None:
        """Load the folder of the process before :meth:`restart`.

        Raises:
            ModelProcessFailed: as :meth:`load`; also when there was no folder.
        """
        if self.folder is None:
            raise ModelProcessFailed("error", "A model process that never held a model can't load it again")
        self.load(self.folder)

    def close(self) -> None:
        """Kill the process and everything it started; nothing is left behind."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def pin(self, cores: Collection[int]) -> None:
        """Let the thread that answers run on these cores alone: with one thread, the whole model."""
        scheduling.pin(self.pid, cores)

    def pause(self) -> None:
        """Let the process stand still until the next request, or :meth:`resume`.

        ONNX Runtime's threads spin for some 30 ms after their last work, and would take the cores from whoever
        is measured next.
        """
        self._connection.pause()

    def resume(self) -> None:
        """Let it run again."""
        self._connection.resume()

    def raise_priority(self) -> bool:
        """Let the process go before other programs; False where the system does not allow it."""
        return scheduling.set_niceness(self.pid, scheduling.FIRST)

    def restore_priority(self) -> None:
        """Let the process wait for its turn like any other."""
        scheduling.set_niceness(self.pid, scheduling.USUAL)
