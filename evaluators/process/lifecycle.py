"""The start of every child process, and its end with all that it started.

Imported by children under interpreters that have no olivine: the standard library alone.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NoReturn

from olivine.evaluators.process.scheduling import die_with_parent

#: The kernel's out-of-memory killer takes the process with the highest score: a candidate before the study (proc(5)).
_FIRST_TO_GO = "1000"
#: Environment variable that tells a child who started it.
STARTER = "OLIVINE_STARTER"


def starter_environment() -> dict[str, str]:
    """Environment variables by which a child ends, should this process end in the child's first second."""
    return {STARTER: str(os.getpid())}


def begin() -> None:
    """Leave no core dumps, end when the parent ends, and be the first to go when the machine's memory runs out."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    die_with_parent()
    starter = os.environ.get(STARTER)
    if starter is not None and not Path(f"/proc/{starter}").exists():
        os._exit(1)  # it ended before we asked to end with it
    with suppress(OSError):  # not every container lets a process write it; nothing depends on it
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)


def answer_once(work: Callable[[dict[str, Any]], dict[str, Any]]) -> NoReturn:
    """Be a child that answers one request: JSON from stdin, an answer of one line of JSON to stdout, and the end."""
    begin()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what native libraries print goes to stderr and can't break the answer
    answers.write(json.dumps(work(json.load(sys.stdin))) + "\n")
    answers.flush()
    os._exit(0)  # no destructors: sessions and providers that are about to vanish need not be torn down


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a child that leads a process group, and the rest of the group; wait for the child."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def close_pipes(*pipes: IO[bytes] | None) -> None:
    """Close the ends of a dead child's pipes that are still open."""
    for pipe in pipes:
        if pipe is not None and not pipe.closed:
            with suppress(BrokenPipeError):  # a request that never left: its reader is dead
                pipe.close()


def how_it_ended(code: int) -> str:
    """An exit code in words: ``died of SIGSEGV``, ``ended with exit code 1``."""
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = " (killed from outside: by hand, or by the kernel for want of memory)" if name == "SIGKILL" else ""
    return f"died of {name}{hint}"
