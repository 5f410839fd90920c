"""``olivine validate`` and ``olivine plan``: read a study, and say what is wrong with it or what it will take."""

from __future__ import annotations

import argparse

from olivine.passes.errors import UsageError
from olivine.search.cli.command import Command
from olivine.search.cli.options import add_overrides, load_study, user_path
from olivine.search.cli.terminal import output
from olivine.search.report.say import say


def add_validate_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine validate``."""
    parser.add_argument("config", type=user_path)


def validate(options: argparse.Namespace) -> int:
    """Name every mistake in a config, and the providers that do not run here."""
    from olivine.search.config.graph import GraphStudyConfig
    from olivine.search.planning.preflight import absent_providers

    config, out = load_study(options), output()
    if isinstance(config, GraphStudyConfig):
        from olivine.search.workloads.graph_task import load_task

        load_task(config)
    say(out, f"{options.config} is a valid study of {config.model}")
    for sentence in absent_providers(config):
        say(out, sentence, style="yellow")
    return 0


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine plan``."""
    parser.add_argument("config", type=user_path)
    add_overrides(parser)


def plan(options: argparse.Namespace) -> int:
    """Print what a study would do and take."""
    from olivine.search.planning.plan import lacks, make_plan, plan_table
    from olivine.search.workloads.newer_defaults import begin_config
    from olivine.search.workloads.text_defaults import begin_texts

    config, note = begin_config(load_study(options))
    if note:
        say(output(), note)
    planned = make_plan(begin_texts(config))
    output().print(plan_table(planned))
    if lacking := lacks(planned):
        raise UsageError("the study does not fit this machine: " + "; ".join(lacking))
    return 0


COMMANDS = (
    Command("validate", "name every mistake in a config, before any work", add_validate_arguments, validate),
    Command("plan", "axes, candidates, memory, disk and time of a study; builds nothing", add_plan_arguments, plan),
)
