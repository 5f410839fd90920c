"""``olivine doctor``: what works on this machine, and what of a model is supported."""

from __future__ import annotations

import argparse

from olivine.search.cli.command import Command
from olivine.search.cli.options import MODEL, add_hub_options
from olivine.search.cli.terminal import output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine doctor``."""
    what = "the interpreter whose ONNX Runtime is asked; each provider's own by default"
    parser.add_argument("model", nargs="?", help=f"{MODEL}; without one, the machine is examined")
    parser.add_argument("--python", help=what)
    add_hub_options(parser)


def run(options: argparse.Namespace) -> int:
    """Print the state of the machine, or what of a model is supported; nothing is built.

    The exit code is 1 where the CPU provider fails, and 2 where a model is refused.
    """
    if options.model is not None:
        from olivine.search.planning.model_support import show_support

        return show_support(output(), options.model, options.revision, options.trust_remote_code)
    from olivine.search.planning.doctor import doctor

    return doctor(output(), options.python)


COMMANDS = (Command("doctor", "what works here, or what of a MODEL is supported", add_arguments, run),)
