"""``olivine validate`` and ``olivine plan``: read a study, and say what is wrong with it or what it will take."""

from __future__ import annotations

import argparse

from olivine.passes.errors import UsageError
from olivine.search.cli.command import Command
from olivine.search.cli.json_option import add_json, write_answer
from olivine.search.cli.options import add_overrides, load_study, user_path
from olivine.search.cli.terminal import output
from olivine.search.report.say import say


def add_validate_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine validate``."""
    parser.add_argument("config", type=user_path)
    add_json(parser)


def validate(options: argparse.Namespace) -> int:
    """Name every mistake in a config, and the providers that do not run here."""
    from olivine.search.answers.planned import check_config, invalid_answer, valid_answer

    try:
        config = load_study(options)
        check_config(config)
    except UsageError as error:
        mistakes = invalid_answer(options.config, error)
        write_answer(options, lambda: mistakes)
        raise
    answer = valid_answer(options.config, config)
    say(output(), f"{options.config} is a valid study of {config.model}")
    for sentence in answer.absent_providers:
        say(output(), sentence, style="yellow")
    write_answer(options, lambda: answer)
    return 0


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine plan``."""
    parser.add_argument("config", type=user_path)
    add_overrides(parser)
    add_json(parser)


def plan(options: argparse.Namespace) -> int:
    """Print what a study would do and take."""
    from olivine.search.answers.planned import plan_answer
    from olivine.search.planning.plan import lacks, make_plan, plan_table
    from olivine.search.workloads.newer_defaults import begin_config
    from olivine.search.workloads.text_defaults import begin_texts

    config, note = begin_config(load_study(options))
    if note:
        say(output(), note)
    planned = make_plan(begin_texts(config))
    output().print(plan_table(planned))
    write_answer(options, lambda: plan_answer(planned, [note] if note else []))
    if lacking := lacks(planned):
        raise UsageError("the study does not fit this machine: " + "; ".join(lacking))
    return 0


COMMANDS = (
    Command("validate", "name every mistake in a config, before any work", add_validate_arguments, validate),
    Command("plan", "axes, candidates, memory, disk and time of a study; builds nothing", add_plan_arguments, plan),
)
