"""``olivine doctor``: what works on this machine, and what of a model is supported."""

from __future__ import annotations

import argparse

from olivine.search.cli.command import Command
from olivine.search.cli.json_option import add_json, write_answer
from olivine.search.cli.options import MODEL, add_hub_options
from olivine.search.cli.terminal import output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine doctor``."""
    what = "the interpreter whose ONNX Runtime is asked; each provider's own by default"
    parser.add_argument("model", nargs="?", help=f"{MODEL}; without one, the machine is examined")
    parser.add_argument("--python", help=what)
    add_hub_options(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Print the state of the machine, or what of a model is supported; nothing is built.

    The exit code is 1 where the CPU provider fails, and 2 where a model is refused.
    """
    if options.model is not None:
        return _examine_model(options)
    from olivine.search.answers.machine import doctor_answer
    from olivine.search.planning.doctor import examine, machine_tables

    examined = examine(options.python)
    output().print(machine_tables(examined))
    write_answer(options, lambda: doctor_answer(examined))
    return 0 if examined.cpu_works else 1


def _examine_model(options: argparse.Namespace) -> int:
    from olivine.search.answers.machine import support_answer
    from olivine.search.planning.model_support import examine_model, support_table

    support = examine_model(options.model, options.revision, options.trust_remote_code)
    output().print(support_table(support))
    write_answer(options, lambda: support_answer(support))
    return support.exit_code


COMMANDS = (Command("doctor", "what works here, or what of a MODEL is supported", add_arguments, run),)
