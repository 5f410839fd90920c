"""``olivine provider add`` and ``olivine doctor``: environments of providers; what works here, or of a model."""

from __future__ import annotations

import argparse
import sys

from olivine.search.cli.command import Command
from olivine.search.cli.json_option import add_json, write_answer
from olivine.search.cli.options import MODEL, add_hub_options, user_path
from olivine.search.cli.terminal import output


def add_doctor_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine doctor``."""
    what = "the interpreter whose ONNX Runtime is asked; each provider's own by default"
    parser.add_argument("model", nargs="?", help=f"{MODEL}; without one, the machine is examined")
    parser.add_argument("--python", help=what)
    add_hub_options(parser)
    add_json(parser)


def doctor(options: argparse.Namespace) -> int:
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


def add_provider_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine provider add``."""
    parser.add_argument("provider", help="openvino, cuda, ...")
    parser.add_argument("--to", type=user_path, metavar="DIR", help="the environment; envs/NAME by default")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that it is made from")
    add_json(parser)


def provider_add(options: argparse.Namespace) -> int:
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
        add_provider_arguments,
        provider_add,
        group="environments of execution providers",
    ),
    Command("doctor", "what works here, or what of a MODEL is supported", add_doctor_arguments, doctor),
)
