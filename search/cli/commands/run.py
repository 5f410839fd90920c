"""``olivine run``: run a study, or resume the one in its folder."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from olivine.search.cli.command import Command
from olivine.search.cli.json_option import add_json, write_answer
from olivine.search.cli.options import add_overrides, load_study, study_folder, user_path
from olivine.search.cli.terminal import errors, output
from olivine.search.report.say import say

STORAGES = "where workers meet: postgresql://, mysql://, sqlite:/// or grpc://HOST:PORT"
ARTIFACTS = "URL, such as s3://bucket/path, where records meet if workers share no study folder"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine run``."""
    parser.add_argument("config", type=user_path)
    parser.add_argument("--trials", type=int, help="candidates to measure (stop.trials)")
    parser.add_argument("--timeout", help="wall-clock time of the search, such as 30m (stop.timeout)")
    parser.add_argument("--seed", type=int, help="seed of the study")
    parser.add_argument("--out", type=study_folder, help="the study folder; results/NAME by default")
    parser.add_argument("--storage", metavar="URL", help=f"{STORAGES}; SQLite in the study folder by default")
    parser.add_argument("--artifacts", default="", metavar="URL", help=ARTIFACTS)
    add_overrides(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Refuse what surely does not work, then run the study."""
    from olivine.search.answers.study import status_answer
    from olivine.search.planning.estimate.fit import require_fit
    from olivine.search.planning.preflight import has_room, has_text, require_providers, require_room, require_tasks
    from olivine.search.study.run import run_study
    from olivine.search.study.storage import shown
    from olivine.search.study_dir import StudyDir
    from olivine.search.workloads.newer_defaults import study_config
    from olivine.search.workloads.registry import workload_of
    from olivine.search.workloads.text_defaults import study_texts

    more = {"stop.trials": options.trials, "stop.timeout": options.timeout, "seed": options.seed}
    config = load_study(options, more)
    folder = StudyDir(options.out or Path("results") / config.name)
    config, note = study_config(config, folder, has_room)
    if note:
        say(output(), note)
    config = study_texts(config, folder, lambda asked: has_text(asked) and has_room(asked))
    workload = workload_of(config, folder)
    require_providers(config)
    require_tasks(workload.lm_eval)
    require_fit(config)
    require_room(config)
    storage = options.storage
    resume = f"olivine run {shlex.quote(str(options.config))} --out {shlex.quote(str(folder.root))}"
    resume += f" --storage {shown(storage)}" if storage else ""
    try:
        return run_study(workload, folder, output(), errors(), resume, storage, options.artifacts)
    finally:
        if folder.config_path.is_file():
            write_answer(options, lambda: status_answer(folder))


COMMANDS = (Command("run", "run a study, or resume the one in its folder", add_arguments, run),)
