"""Faults in child processes: on PYTHONPATH, Python imports this before anything else.

``OLIVINE_FAULTS`` names a folder of files ``NUMBER.PLACE.FAULT``. The process that opens a file whose name is like
PLACE takes the one of the lowest number, deletes it, and has that fault: each happens once, in a known order.
"""

from __future__ import annotations

import contextlib
import ctypes
import fnmatch
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def segfault() -> None:
    ctypes.string_at(0)


def hang() -> None:
    time.sleep(1e6)


def leave() -> None:
    os._exit(0)


def eat() -> None:
    """Take 10 MB every 20 ms, and keep count where a test can read it."""
    held = []
    counter = Path(os.environ["OLIVINE_FAULTS"]) / "eaten"
    while True:
        held.append(b"x" * 10_000_000)
        counter.write_text(str(len(held) * 10_000_000))
        time.sleep(0.02)


def gulp() -> None:
    """Take 64 GB as fast as the machine gives them."""
    held = []
    for _ in range(1000):
        held.append(b"x" * 64_000_000)


def garbage() -> None:
    """Answer with what is no answer, on whatever pipe there is."""
    for descriptor in range(3, 10):
        with contextlib.suppress(OSError):
            os.write(descriptor, b"\xff garbage \n")


def cut() -> None:
    """Begin an answer, and leave."""
    for descriptor in range(3, 10):
        with contextlib.suppress(OSError):
            os.write(descriptor, b'[4, {"nll": 2')
    os._exit(0)


def lie_score() -> None:
    """Answer the next request for a score with a word for a number."""
    from olivine.evaluators.process.messages import WindowScore

    _server().score = lambda *_, **__: WindowScore("much", 1, 0.0, 1, True)  # type: ignore[arg-type]


def lie_time() -> None:
    """Answer the next request for times with none."""
    from olivine.evaluators.process.messages import Timing

    _server().prefill = lambda *_, **__: Timing([], 0.0)


def _server() -> Any:
    """The server whose method is running."""
    frame = sys._getframe()
    while not hasattr(frame.f_locals.get("self"), "prefill"):
        assert frame.f_back is not None
        frame = frame.f_back
    return frame.f_locals["self"]


def orphan() -> None:
    """Start a process, and crash."""
    if os.fork() == 0:
        time.sleep(1e6)
    os.abort()


def answers(content: bytes) -> Callable[[], None]:
    """A build that leaves this as its answer and ends as if all were well."""

    def answer() -> None:
        request = sys._getframe(1).f_locals["arguments"][0]
        Path(str(request).replace(".request.", ".response.")).write_bytes(content)
        os._exit(0)

    return answer


FAULTS = {
    "segfault": segfault,
    "abort": os.abort,
    "hang": hang,
    "exit": leave,
    "eat": eat,
    "gulp": gulp,
    "garbage": garbage,
    "cut": cut,
    "lie_score": lie_score,
    "lie_time": lie_time,
    "orphan": orphan,
    "answers_noise": answers(b"\xff\x00 garbage"),
    "answers_others": answers(b'{"path": "/tmp", "key": 7, "colour": "blue"}'),
    "none": lambda: None,
}


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "open" or not isinstance(arguments[0], str):
        return
    folder, opened = os.environ["OLIVINE_FAULTS"], os.path.basename(arguments[0])
    for name in sorted(os.listdir(folder)):
        number, _, rest = name.partition(".")
        place, _, fault = rest.rpartition(".")
        if not number.isdigit() or not fnmatch.fnmatchcase(opened, place):
            continue
        os.unlink(os.path.join(folder, name))
        print("a fault happens on purpose:", fault, file=sys.stderr, flush=True)
        FAULTS[fault]()
        return


if "OLIVINE_FAULTS" in os.environ and any(
    word in " ".join(sys.orig_argv) for word in ("builds.child", "process.server")
):
    sys.addaudithook(watch)
