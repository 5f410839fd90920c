"""``olivine import-olive``: write the study that means what a workflow of Olive means."""

from __future__ import annotations

import argparse
import shlex

from olivine.passes.store.atomic_files import STANDARD_OUTPUT
from olivine.search.cli.command import Command
from olivine.search.cli.options import target_file, user_path
from olivine.search.cli.terminal import errors, output, write
from olivine.search.report.say import say


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
        say(notes, f"{place} -> {meaning}")
    for place, why in study.lost:
        say(notes, f"no counterpart: {place}: {why}", style="yellow")
    if to:
        say(notes, f"written to {to}; olivine plan {shlex.quote(str(to))} says what it takes")
    else:
        write(text)
    return 0


COMMANDS = (Command("import-olive", "write the study that means what a workflow of Olive means", add_arguments, run),)
