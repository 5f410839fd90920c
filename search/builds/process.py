"""The process that builds: resident, with its libraries imported, and forked for every build.

A build has a process of its own, which starts in milliseconds: whatever it does to itself (crash, hang, eat the
memory) ends that process, its memory goes with it, and nothing is imported twice.
"""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from olivine.evaluators.process.lifecycle import close_pipes, end_group, how_it_ended, starter_environment
from olivine.evaluators.process.memory_limit import MemoryWatch
from olivine.evaluators.process.scheduling import die_with_parent
from olivine.passes.errors import BuildFailed, Excess, out_of_memory, unwritable
from olivine.passes.store.atomic_files import staging_name
from olivine.passes.store.secrets import masked
from olivine.search.builds.child import EXIT_UNWRITABLE
from olivine.search.builds.messages import BuildAnswer, parse

POLL_S = 0.05
TAIL_CHARACTERS = 2000
_TOLD = re.compile(rb"(started|ended) (-?\d{1,9})")


class BuildProcess:
    """One resident process, the leader of a process group; see :mod:`olivine.search.builds.child` for its side.

    It ends with the thread that makes it.
    """

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log_path = staging_name(folder / f"build-{time.monotonic_ns()}.log")
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "olivine.search.builds.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                # It may be stopped before it, or a build that it has just forked, asked to end with us. The one asks
                # before it is Python; for the other the kernel wakes groups that lose their last parent in the session.
                process_group=0,
                preexec_fn=die_with_parent,
                env={**os.environ, **starter_environment()},
            )
        self._memory = MemoryWatch.start(self._process.pid, limit)
        self._buffer = b""
        self._log_start = 0
        self._closed = False
        self._stopped_at: float | None = None
        self._stood_still_s = 0.0
        self._signals = threading.Lock()

    @property
    def alive(self) -> bool:
        """True while it can take a build."""
        return self._process.poll() is None

    def pause(self) -> None:
        """Let it and the build stand still; the time does not count."""
        with self._signals:
            if self._stopped_at is None:
                self._signal(signal.SIGSTOP)
                self._stopped_at = time.monotonic()

    def resume(self) -> None:
        """Let them go on."""
        with self._signals:
            if self._stopped_at is not None:
                self._stood_still_s += time.monotonic() - self._stopped_at
                self._stopped_at = None
                self._signal(signal.SIGCONT)

    def _wake(self) -> None:
        """Let them go on, unless they should stand still.

        A build that is forked between the two signals of a short pause is stopped by the first and misses the second
        (Linux 6.18: a SIGCONT that nobody handles is not among the signals that a fork delays for its child).
        """
        with self._signals:
            if self._stopped_at is None:
                self._signal(signal.SIGCONT)

    def _signal(self, signum: signal.Signals) -> None:
        """Send it and the build a signal; it may have died meanwhile, which whoever waits for the build finds out."""
        with suppress(ProcessLookupError):
            if self.alive:
                os.killpg(self._process.pid, signum)

    def run(self, request: Path, response: Path, timeout_s: float) -> tuple[BuildAnswer, float]:
        """Build what ``request`` asks for; returns the answer, and the seconds that it ran.

        Raises:
            BuildFailed: when it died, hung or outgrew its memory.
        """
        assert self._process.stdin is not None
        self._log_start = self._log_path.stat().st_size
        self._stood_still_s = 0.0
        started = time.monotonic()
        try:
            self._process.stdin.write(f"{request}\t{response}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has died already; how is told below
        builder: MemoryWatch | None = None
        while (event := self._said()) is None or event[0] != "ended":
            if event is None:
                self._wake()
            else:
                builder = replace(self._memory, pid=event[1], peak=0)
            if not self.alive:
                return self._answer(self._process.wait() or 1, builder or self._memory, response), 0.0
            if self._ran_s(started) > timeout_s:
                raise BuildFailed(f"the build did not end within {timeout_s:g} s", self._tail())
            if builder is not None and (excess := builder.excess()) is not None:
                raise BuildFailed(f"the build was ended: it {excess}", "", excess)
        return self._answer(event[1], builder or self._memory, response), self._ran_s(started)

    def _answer(self, code: int, builder: MemoryWatch, response: Path) -> BuildAnswer:
        """Read the answer of the build that has ended with ``code``."""
        if (excess := builder.killed()) is not None:
            raise BuildFailed(f"the build was ended by the kernel: it {excess}", "", excess)
        if code == EXIT_UNWRITABLE:
            raise unwritable(OSError(self._tail())) or BuildFailed("the build could not answer", self._tail())
        if code != 0 and builder.limit is not None and out_of_memory(self._tail()):
            excess = Excess(max(builder.peak, builder.limit + 1), builder.limit)
            raise BuildFailed(f"the build {how_it_ended(code)} for want of memory: it {excess}", self._tail(), excess)
        if code != 0 or not response.is_file():
            raise BuildFailed(f"the build {how_it_ended(code)}", self._tail())
        try:
            return parse(response.read_bytes())
        except ValueError as error:
            raise BuildFailed(f"the build answered with {error}", self._tail()) from error

    def _ran_s(self, started: float) -> float:
        still = 0.0 if self._stopped_at is None else time.monotonic() - self._stopped_at
        return time.monotonic() - started - self._stood_still_s - still

    def _said(self) -> tuple[str, int] | None:
        """Read the next line of the process, and its number; None where nothing came in a while.

        Raises:
            BuildFailed: when that was something else: what a build writes where it shouldn't arrives here.
        """
        assert self._process.stdout is not None
        if b"\n" not in self._buffer:
            with selectors.DefaultSelector() as selector:
                selector.register(self._process.stdout, selectors.EVENT_READ)
                if not selector.select(POLL_S):
                    return None
            chunk = os.read(self._process.stdout.fileno(), 1 << 12)
            if not chunk:
                self._process.wait()
                return None
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        if (match := _TOLD.fullmatch(line)) is None:
            raise BuildFailed(f"the build said {line[:80]!r} where its process tells how it goes", self._tail())
        return match[1].decode(), int(match[2])

    def _tail(self) -> str:
        output = self._log_path.read_bytes()[self._log_start :]
        return masked(output[-TAIL_CHARACTERS:].decode("utf-8", "replace").strip())

    def close(self) -> None:
        """Kill it and the build; nothing is left behind."""
        if self._closed:
            return
        self._closed = True
        end_group(self._process)
        self._memory.close()
        close_pipes(self._process.stdin, self._process.stdout)
        self._log_path.unlink(missing_ok=True)
