"""``olivine worker`` and ``olivine proxy``: more processes and machines for a study."""

from __future__ import annotations

import argparse
from pathlib import Path

from olivine.search.cli.command import Command
from olivine.search.cli.commands.run import ARTIFACTS, STORAGES
from olivine.search.cli.options import add_overrides, load_study, seconds, study_folder, user_path
from olivine.search.cli.terminal import output
from olivine.search.report.say import say


def add_worker_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine worker``."""
    parser.add_argument("config", type=user_path)
    parser.add_argument("--storage", metavar="URL", required=True, help=STORAGES)
    what = "what to do of each trial: build, quality, latency or all; repeatable"
    parser.add_argument("--role", action="append", choices=("build", "quality", "latency", "all"), help=what)
    out = "the study folder, or one of its own with the same name; results/NAME"
    parser.add_argument("--out", type=study_folder, help=out)
    parser.add_argument("--artifacts", default="", metavar="URL", help=ARTIFACTS)
    parser.add_argument("--wait", type=seconds, default="30m", help="longest wait for the study's base, such as 30m")
    add_overrides(parser)


def worker(options: argparse.Namespace) -> int:
    """Join a study that ``olivine run`` leads."""
    from olivine.search.report.progress import watcher_for
    from olivine.search.study.distributed.join import MeetingPlace, run_worker
    from olivine.search.study_dir import StudyDir

    config = load_study(options)
    folder = StudyDir(options.out or Path("results") / config.name)
    place = MeetingPlace(options.storage, options.artifacts, options.wait)
    return run_worker(config, folder, place, options.role or ["all"], watcher_for(output()))


def add_proxy_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine proxy``."""
    parser.add_argument("--storage", metavar="URL", required=True, help="the database, such as postgresql://...")
    parser.add_argument("--host", default="localhost", help="address to listen on; anybody who reaches it is let in")
    parser.add_argument("--port", type=int, default=13000)


def proxy(options: argparse.Namespace) -> int:
    """Serve Optuna's gRPC proxy until Ctrl-C."""
    from olivine.search.study.storage import serve_proxy, shown

    address = f"grpc://{options.host}:{options.port}"
    say(output(), f"{address} in front of {shown(options.storage)} (Ctrl-C ends it)")
    serve_proxy(options.storage, options.host, options.port)
    return 0


COMMANDS = (
    Command(
        "worker",
        "join a study that 'olivine run' leads, from another process or machine",
        add_worker_arguments,
        worker,
    ),
    Command("proxy", "serve Optuna's gRPC proxy in front of a database, for many workers", add_proxy_arguments, proxy),
)
