"""An engine in a process of its own, under the interpreter that has it."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ENGINES = Path(__file__).parent / "engines"


@dataclass(frozen=True)
class Launch:
    """Everything that starts an engine on a model.

    Attributes:
        python: interpreter.
        script: in ``engines/``.
        settings: of the model, its path among them.
        environment: variables beside those of this process.
    """

    python: Path
    script: str
    settings: dict[str, Any]
    environment: dict[str, str] = field(default_factory=dict)


class EngineProcess:
    """The running engine."""

    def __init__(self, process: subprocess.Popen[str], errors: Any) -> None:
        self._process, self._errors = process, errors

    def ask(self, request: dict[str, Any]) -> Any:
        """The answer to a request of ``engines/worker.py``.

        Raises:
            RuntimeError: when the process has died; says what it last wrote.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # it has died; its last words are asked for below
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise RuntimeError(f"an engine has died:\n{self._errors.read()[-2000:]}")
        return json.loads(line)

    def waited_s(self) -> float:
        """Seconds that its threads have been ready to run but had no core, as the kernel counts them."""
        waited_ns = 0
        for thread in Path(f"/proc/{self._process.pid}/task").iterdir():
            with suppress(OSError):  # a thread that has just ended
                waited_ns += int((thread / "schedstat").read_text().split()[1])
        return waited_ns * 1e-9


@contextmanager
def real_time() -> Iterator[None]:
    """Meanwhile this process and those that it starts run in real time, where they may: no other takes a core."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


@contextmanager
def running(launch: Launch) -> Iterator[EngineProcess]:
    """Start an engine; it ends with the block."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [str(launch.python), str(ENGINES / launch.script), json.dumps(launch.settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **launch.environment},
        )
        try:
            yield EngineProcess(process, errors)
        finally:
            process.terminate()
            with suppress(BrokenPipeError):  # what was written to an engine that has died
                process.communicate()
