"""``olivine doctor``: what works on this machine."""

from __future__ import annotations

import argparse

from olivine.search.cli.command import Command
from olivine.search.cli.terminal import output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine doctor``."""
    what = "the interpreter whose ONNX Runtime is asked; each provider's own by default"
    parser.add_argument("--python", help=what)


def run(options: argparse.Namespace) -> int:
    """Print versions, providers, memory, disk and the state of the hub; exit code 1 where the CPU provider fails."""
    from olivine.search.planning.doctor import doctor

    return doctor(output(), options.python)


COMMANDS = (Command("doctor", "what works here: versions, providers, memory, disk, hub", add_arguments, run),)
