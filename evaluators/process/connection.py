"""Connection: a child process that answers one request at a time, in JSON lines."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from olivine.evaluators.process import scheduling
from olivine.evaluators.process.answers import read_reply
from olivine.evaluators.process.bootstrap import child_environment
from olivine.evaluators.process.failure import FailureKind, ModelProcessFailed, exit_failure, name_of
from olivine.evaluators.process.lifecycle import close_pipes, end_group
from olivine.evaluators.process.memory_limit import MemoryWatch
from olivine.evaluators.process.messages import Message, Timing
from olivine.passes.errors import Excess, OlivineError
from olivine.passes.store.secrets import masked

_Message = TypeVar("_Message", bound=Message)
TAIL_CHARACTERS = 2000


class Connection:
    """A started child and the pipes to it; whatever goes wrong ends the child and is one error.

    Attributes:
        model: folder that messages name; None before one is loaded.
        memory: the child's memory and its limit.
        timeout_s: longest wait for the answer to one request.
    """

    def __init__(
        self,
        command: Sequence[str],
        timeout_s: float,
        memory_limit_bytes: int | None,
        watch: Callable[[int, int | None], MemoryWatch] = MemoryWatch.start,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start the child; it ends with the thread that starts it.

        Args:
            command: program and arguments.
            timeout_s: longest wait for the answer to one request; the child is killed after it.
            memory_limit_bytes: the child is killed when its resident set outgrows this.
            watch: makes the watch of a child's memory, from its process id and limit.
            environment: of the child; that of model processes by default.
        """
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child; closed in close()
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,
            env=child_environment() if environment is None else environment,
        )
        self.memory = watch(self._child.pid, memory_limit_bytes)
        self.model: Path | None = None
        self.timeout_s = timeout_s
        self._buffer = b""
        self._requests = 0
        self._paused = False
        self._closed = False

    @property
    def pid(self) -> int:
        """Process id of the child, which leads a process group of the same id."""
        return self._child.pid

    @property
    def alive(self) -> bool:
        """True while the child runs."""
        return self._child.poll() is None

    @property
    def open(self) -> bool:
        """True while the child can take a request."""
        return not self._closed and self.alive

    def request(
        self, answer: type[_Message], command: str, *, timeout_s: float | None = None, **arguments: Any
    ) -> _Message:
        """Send one request and wait for its answer.

        Args:
            answer: type of the answer.
            command: name of the server's method.
            timeout_s: longest wait, where it is not the usual one.
            arguments: of the command.

        Raises:
            ModelProcessFailed: when the child has ended, hangs, outgrows its memory or gives no such answer.
        """
        self.resume()
        self._requests += 1
        line = json.dumps({"id": self._requests, "do": command, **arguments}).encode() + b"\n"
        if self._child.stdin is None or self._child.stdin.closed:
            raise ModelProcessFailed("error", f"{name_of(self.model)} is closed; '{command}' was not sent")
        try:
            self._child.stdin.write(line)
            self._child.stdin.flush()
        except BrokenPipeError:
            raise self._ended(command) from None
        reply = self._read_line(command, self.timeout_s if timeout_s is None else timeout_s)
        try:
            number, message = read_reply(answer, reply)
        except ValueError as error:
            raise self.failed("error", f"answered '{command}' with {error}") from None
        if number != self._requests:
            raise self.failed("error", f"answered another request than '{command}'")
        return message

    def request_times(self, command: str, count: int, **arguments: Any) -> Timing:
        """Request so many times.

        Raises:
            ModelProcessFailed: also when there are more or fewer of them, or one is no time.
        """
        timing = self.request(Timing, command, **arguments)
        if len(timing.ms) != count or min(timing.ms) <= 0:
            what = f"answered '{command}' with the times {timing.ms[:8]}, not with {count} above 0"
            raise self.failed("error", what)
        return timing

    def pause(self) -> None:
        """Let the child stand still until the next request, or :meth:`resume`."""
        if self.alive and not self._paused:
            scheduling.stop(self.pid)
            self._paused = True

    def resume(self) -> None:
        """Let the child run again."""
        if self.alive and self._paused:
            scheduling.go_on(self.pid)
        self._paused = False

    def failed(self, kind: FailureKind, what: str, excess: Excess | None = None) -> ModelProcessFailed:
        """End the child, and make the error that says why."""
        tail = self._tail()
        self.close()
        return ModelProcessFailed(kind, f"{name_of(self.model)} {what}", tail, excess)

    def close(self) -> None:
        """Kill the child and everything it started; nothing is left behind."""
        if self._closed:
            return
        self._closed = True
        end_group(self._child)
        self.memory.close()
        close_pipes(self._child.stdin, self._child.stdout, self._stderr)

    def _read_line(self, command: str, timeout_s: float) -> bytes:
        """Read a line from the child, while its time and memory last."""
        deadline = time.monotonic() + timeout_s
        assert self._child.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise self.failed("timeout", f"did not answer '{command}' within {timeout_s:g} s")
                if selector.select(min(left, self.memory.poll_s)):
                    chunk = os.read(self._child.stdout.fileno(), 1 << 20)
                    if not chunk:
                        raise self._ended(command)
                    self._buffer += chunk
                elif not self.alive:  # dead, while one that it started keeps the pipe open
                    raise self._ended(command)
                if (excess := self.memory.excess()) is not None:
                    raise self.failed("memory", f"was ended in '{command}': it {excess}", excess)
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _ended(self, command: str) -> OlivineError:
        """Make the error of a child that has ended by itself."""
        code = self._child.wait()
        error = exit_failure(self.model, command, code, self._tail(), self.memory)
        self.close()
        return error

    def _tail(self) -> str:
        if self._stderr.closed:
            return ""
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - TAIL_CHARACTERS))
        return masked(str(self._stderr.read().decode("utf-8", "replace").strip()))
