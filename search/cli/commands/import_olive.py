"""``olivine import-olive``: write the study that means what a workflow of Olive means."""

from __future__ import annotations

import argparse

from olivine.passes.store.atomic_files import STANDARD_OUTPUT
from olivine.search.cli.command import Command
from olivine.search.cli.options import target_file, user_path
from olivine.search.cli.terminal import errors, output, write


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine import-olive``."""
    parser.add_argument("workflow", type=user_path, help="its JSON (or YAML) file")
    parser.add_argument("--to", type=target_file, metavar="FILE", help="the YAML to write; printed by default")


def run(options: argparse.Namespace) -> int:
    """Convert the workflow, and list what has no counterpart."""
    from olivine.search.planning.olive.convert import write_study

    to = None if str(options.to) in STANDARD_OUTPUT else options.to
    study, text = write_study(options.workflow, to)
    notes = output() if to else errors()
    for place, meaning in study.kept:
        notes.print(f"{place} -> {meaning}", markup=False, soft_wrap=True)
    for place, why in study.lost:
        notes.print(f"no counterpart: {place}: {why}", style="yellow", markup=False, soft_wrap=True)
    if to:
        notes.print(f"written to {to}; olivine plan {to} says what it takes", markup=False)
    else:
        write(text)
    return 0


COMMANDS = (Command("import-olive", "write the study that means what a workflow of Olive means", add_arguments, run),)
