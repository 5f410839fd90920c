"""``olivine trials``, ``compare``, ``report`` and ``dashboard``: look at a study folder."""

from __future__ import annotations

import argparse

from olivine.search.cli.command import Command
from olivine.search.cli.json_option import add_json, write_answer
from olivine.search.cli.options import target_file, user_path
from olivine.search.cli.terminal import output
from olivine.search.report.say import say


def _add_study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", type=user_path)


def add_trials_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine trials``."""
    _add_study(parser)
    add_json(parser)


def trials(options: argparse.Namespace) -> int:
    """Print a study's trials."""
    from olivine.search.answers.study import trials_answer
    from olivine.search.config.load import load_config
    from olivine.search.report.tables import trials_table
    from olivine.search.study_dir import StudyDir

    study = StudyDir.open(options.study)
    if options.json is None:
        output().print(trials_table(study.trials(), load_config(study.config_path).objectives))
    write_answer(options, lambda: trials_answer(study.trials()))
    return 0


def add_compare_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine compare``."""
    _add_study(parser)
    parser.add_argument("a", type=int)
    parser.add_argument("b", type=int)
    add_json(parser)


def compare(options: argparse.Namespace) -> int:
    """Print two trials side by side."""
    from olivine.search.answers.study import comparison_answer
    from olivine.search.report.tables import compare_table
    from olivine.search.study_dir import StudyDir

    study = StudyDir.open(options.study)
    a, b = study.trial(options.a), study.trial(options.b)
    output().print(compare_table(a, b))
    write_answer(options, lambda: comparison_answer(a, b))
    return 0


def add_state_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine status`` and ``olivine front``."""
    _add_study(parser)
    add_json(parser)


def status(options: argparse.Namespace) -> int:
    """Print whether a study runs, how many trials have ended, and what is selected."""
    from olivine.search.answers.study import status_answer
    from olivine.search.study_dir import StudyDir

    now = status_answer(StudyDir.open(options.study))
    counts = ", ".join(f"{count} {state}" for state, count in now.trials.items())
    say(output(), f"{now.study}: {now.state}; trials: {counts}")
    if now.selected is not None:
        say(output(), f"selected: trial {now.selected}")
    for sentence in (now.reason, *now.warnings):
        say(output(), sentence)
    write_answer(options, lambda: now)
    return 0


def front(options: argparse.Namespace) -> int:
    """Print the front of a study, confirmed or so far."""
    from olivine.search.answers.study import front_answer
    from olivine.search.front_csv import read_front
    from olivine.search.report.study_view import read_view
    from olivine.search.report.tables import front_table, trials_table
    from olivine.search.study_dir import StudyDir

    study = StudyDir.open(options.study)
    view = read_view(study)
    output().print(front_table(read_front(study)) if view.confirmed else trials_table(view.members, view.objectives))
    if not view.confirmed:
        say(output(), "so far; not confirmed on fresh samples yet")
    write_answer(options, lambda: front_answer(study))
    return 0


def add_report_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine report``."""
    _add_study(parser)
    parser.add_argument("--picture", type=target_file, metavar="FILE", help="write the front as an SVG picture too")


def report(options: argparse.Namespace) -> int:
    """Write report.html, and the picture where one is wanted."""
    from olivine.passes.store.atomic_files import write_target
    from olivine.search.report.report import require_front_picture, write_report
    from olivine.search.study_dir import StudyDir

    study, out = StudyDir.open(options.study), output(options.picture)
    say(out, str(write_report(study)))
    if options.picture:
        write_target(options.picture, require_front_picture(study))
        say(out, str(options.picture))
    return 0


def add_dashboard_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine dashboard``."""
    _add_study(parser)
    parser.add_argument("--port", type=int, default=8080)


def dashboard(options: argparse.Namespace) -> int:
    """Serve optuna-dashboard until Ctrl-C."""
    from olivine.search.report.dashboard.server import serve
    from olivine.search.study_dir import StudyDir

    serve(StudyDir.open(options.study), options.port)
    return 0


COMMANDS = (
    Command("trials", "table of a study's trials", add_trials_arguments, trials),
    Command("compare", "two trials of a study side by side", add_compare_arguments, compare),
    Command("status", "state of a study: running, stopped or ended, and its selection", add_state_arguments, status),
    Command("front", "Pareto front of a study, confirmed or so far", add_state_arguments, front),
    Command("report", "write a study's self-contained report.html", add_report_arguments, report),
    Command("dashboard", "optuna-dashboard on a study, on this machine only", add_dashboard_arguments, dashboard),
)
