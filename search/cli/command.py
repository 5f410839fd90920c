"""Command: a command of ``olivine`` as its file in ``commands/`` declares it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        name: the word after ``olivine``; two words for a command of a group.
        text: one line for ``--help``.
        add_arguments: declares its arguments.
        run: does the work with the parsed arguments, and returns the exit code. It imports what it needs itself, so
            that ``olivine --help`` stays fast.
        group: one line for ``--help`` about the first of two words.
    """

    name: str
    text: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    group: str = ""
