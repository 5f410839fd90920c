"""``olivine trials``, ``compare``, ``report`` and ``dashboard``: look at a study folder."""

from __future__ import annotations

import argparse

from olivine.search.cli.command import Command
from olivine.search.cli.options import target_file, user_path
from olivine.search.cli.terminal import output, write
from olivine.search.report.say import say


def _add_study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", type=user_path)


def add_trials_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine trials``."""
    _add_study(parser)
    parser.add_argument("--json", action="store_true", help="the records as JSON")


def trials(options: argparse.Namespace) -> int:
    """Print a study's trials."""
    from olivine.search.config.load import load_config
    from olivine.search.report.tables import trials_json, trials_table
    from olivine.search.study_dir import StudyDir

    study = StudyDir.open(options.study)
    if options.json:
        write(trials_json(study.trials()) + "\n")
    else:
        output().print(trials_table(study.trials(), load_config(study.config_path).objectives))
    return 0


def add_compare_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine compare``."""
    _add_study(parser)
    parser.add_argument("a", type=int)
    parser.add_argument("b", type=int)


def compare(options: argparse.Namespace) -> int:
    """Print two trials side by side."""
    from olivine.search.report.tables import compare_table
    from olivine.search.study_dir import StudyDir

    study = StudyDir.open(options.study)
    output().print(compare_table(study.trial(options.a), study.trial(options.b)))
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
    Command("report", "write a study's self-contained report.html", add_report_arguments, report),
    Command("dashboard", "optuna-dashboard on a study, on this machine only", add_dashboard_arguments, dashboard),
)
