"""The commands of ``olivine``, a file each or a file for a few that belong together."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from olivine.search.cli.command import Command

#: Files of this folder in the order of ``olivine --help``. To add a command, write its file and name it here.
FILES = (
    "plan",
    "run",
    "worker",
    "study_folder",
    "export",
    "build",
    "optimize",
    "finetune",
    "import_olive",
    "bench",
    "evaluate",
    "chat",
    "mcp",
    "recipes",
    "doctor",
)


def all_commands() -> Iterator[Command]:
    """Every command, in the order of ``olivine --help``."""
    for file in FILES:
        yield from import_module(f"{__name__}.{file}").COMMANDS
