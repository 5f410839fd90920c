"""``olivine provider add``: make an environment of its own for an execution provider."""

from __future__ import annotations

import argparse
import sys

from olivine.search.cli.command import Command
from olivine.search.cli.options import user_path
from olivine.search.cli.terminal import output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine provider add``."""
    parser.add_argument("provider", help="openvino, cuda, ...")
    parser.add_argument("--to", type=user_path, metavar="DIR", help="the environment; envs/NAME by default")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that it is made from")


def run(options: argparse.Namespace) -> int:
    """Make the environment and try the provider in it; exit code 1 where it does not work."""
    from olivine.search.planning.provider_environment import add_provider

    return add_provider(options.provider, options.to, options.python, output())


COMMANDS = (
    Command(
        "provider add",
        "make an environment of its own for a provider, with pinned packages",
        add_arguments,
        run,
        group="environments of execution providers",
    ),
)
