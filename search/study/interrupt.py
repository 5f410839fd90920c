"""Ctrl-C: the first one lets the running trial finish, the second one stops at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

#: Exit code of a command that a person interrupted.
EXIT_INTERRUPTED = 130


class Interrupted(Exception):
    """The person at the terminal asked to stop; the study can be resumed."""


@contextmanager
def finish_trial_on_interrupt(note: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Let the running trial finish after the first Ctrl-C, and stop at once after the second.

    Args:
        note: says so to the person.

    Yields:
        A function that tells whether Ctrl-C was pressed.
    """
    pressed = False

    def handle(signum: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        note("stopping when the running trial has ended; Ctrl-C again stops now, and that trial is measured anew later")

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)
