"""``olivine provider add``: make an environment of its own for an execution provider."""

from __future__ import annotations

import argparse
import sys

from olivine.search.cli.command import Command
from olivine.search.cli.json_option import add_json, write_answer
from olivine.search.cli.options import user_path
from olivine.search.cli.terminal import output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine provider add``."""
    parser.add_argument("provider", help="openvino, cuda, ...")
    parser.add_argument("--to", type=user_path, metavar="DIR", help="the environment; envs/NAME by default")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that it is made from")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Make the environment and try the provider in it; exit code 1 where it does not work."""
    from olivine.search.answers.machine import added_provider_answer
    from olivine.search.planning.provider_environment import add_provider

    folder, state = add_provider(options.provider, options.to, options.python, output())
    write_answer(options, lambda: added_provider_answer(folder, state))
    return 0 if state.state == "works" else 1


COMMANDS = (
    Command(
        "provider add",
        "make an environment of its own for a provider, with pinned packages",
        add_arguments,
        run,
        group="environments of execution providers",
    ),
)
