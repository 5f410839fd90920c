"""``olivine recipes``: ready studies for model families."""

from __future__ import annotations

import argparse
import shlex

from olivine.passes.store.atomic_files import STANDARD_OUTPUT
from olivine.search.cli.command import Command
from olivine.search.cli.json_option import add_json, write_answer
from olivine.search.cli.options import target_file
from olivine.search.cli.terminal import output, write
from olivine.search.report.say import say

_GROUP = "ready studies for model families"


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="family and device, such as qwen/cpu")


def _add_copy_arguments(parser: argparse.ArgumentParser) -> None:
    _add_name(parser)
    parser.add_argument("--to", type=target_file, required=True, metavar="FILE", help="the file to make")


def list_all(options: argparse.Namespace) -> int:
    """Print names and purposes."""
    from olivine.search.answers.planned import recipes_answer
    from olivine.search.planning.ready_studies import ready_studies

    out, studies = output(), ready_studies()
    for study in studies:
        say(out, f"{study.name:<14} {study.purpose}")
    write_answer(options, lambda: recipes_answer(studies))
    return 0


def show(options: argparse.Namespace) -> int:
    """Print the YAML of one."""
    from olivine.search.planning.ready_studies import ready_study

    write(ready_study(options.name).path.read_text(encoding="utf-8"))
    return 0


def copy(options: argparse.Namespace) -> int:
    """Copy one to a file."""
    from olivine.search.planning.ready_studies import copy_ready_study

    if str(options.to) in STANDARD_OUTPUT:
        return show(options)
    to = copy_ready_study(options.name, options.to)
    say(output(), f"copied to {to}; olivine plan {shlex.quote(str(to))} says what it takes")
    return 0


COMMANDS = (
    Command("recipes list", "their names and what they are for", add_json, list_all, _GROUP),
    Command("recipes show", "the YAML of one", _add_name, show, _GROUP),
    Command("recipes copy", "copy one, to change it", _add_copy_arguments, copy, _GROUP),
)
