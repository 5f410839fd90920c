"""A command line of olivine in a process of its own, and its answer as an object."""

from __future__ import annotations

import subprocess
import sys
from typing import TypeVar

import anyio

from olivine.search.answers.shape import Shape

#: The command line of this installation.
OLIVINE = (sys.executable, "-m", "olivine.search.cli.main")
#: Begins the error of a command.
MARK = "olivine: "

Answered = TypeVar("Answered", bound=Shape)


class CommandFailed(Exception):
    """A command that ended without an answer; the message is its own, with the exit code."""

    def __init__(self, said: str, exit_code: int) -> None:
        super().__init__(f"{error_message(said)} (exit code {exit_code})")


def error_message(said: str) -> str:
    """The error at the end of what a command said; the last line where it gave none."""
    at = f"\n{said}".rfind(f"\n{MARK}")
    last = said.strip().rpartition("\n")[2] or "it said nothing"
    return last if at < 0 else said[at + len(MARK) :].strip()


async def answer_of(shape: type[Answered], *words: str) -> Answered:
    """Run a command with ``--json``, and read its answer; one that ended with an error may have given one too.

    Args:
        shape: of the answer.
        words: the command and its arguments.

    Raises:
        CommandFailed: when it gave none.
    """
    command = [*OLIVINE, words[0], "--json=-", *words[1:]]
    done = await anyio.run_process(command, stdin=subprocess.DEVNULL, check=False)
    if not done.stdout:
        raise CommandFailed(done.stderr.decode(errors="replace"), done.returncode)
    return shape.model_validate_json(done.stdout)
