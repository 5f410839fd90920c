"""The command line: one function a command, each importing what it needs when it runs.

What each takes is in ``arguments.py``.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich.console import Console

from olivine.passes.errors import OlivineError, UsageError
from olivine.passes.store.secrets import masked
from olivine.search.cli.arguments import make_parser
from olivine.search.cli.error_messages import trouble

if TYPE_CHECKING:
    from olivine.search.config.graph import GraphStudyConfig
    from olivine.search.config.language import LanguageStudyConfig

INTERRUPTED = 130
#: Tables keep their columns in logs and pipes, which have no width of their own.
OUT = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
ERR = Console(stderr=True, highlight=False, soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 done, 1 failed, 2 mistake, 3 nothing qualifies, 130 interrupted."""
    options = parser().parse_args(arguments)
    quiet_libraries()
    with _stoppable():
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    """Run one parsed command, and tell its errors."""
    try:
        code: int = options.command(options) or 0
    except OlivineError as error:
        if options.debug:
            traceback.print_exc()
        ERR.print(f"olivine: {masked(str(error))}", markup=False)
        return error.exit_code
    except KeyboardInterrupt:
        ERR.print("olivine: stopped")
        return INTERRUPTED
    except Exception as error:  # the last line of defence: a person gets one readable message
        if options.debug:
            raise
        known = trouble(error)
        said = str(known) if known is not None else f"{type(error).__name__}: {error} (--debug shows where)"
        ERR.print(f"olivine: {masked(said)}", markup=False)
        return 1
    return code


@contextmanager
def _stoppable() -> Iterator[None]:
    """A reboot or a closed terminal stops like a second Ctrl-C: at once, with nothing left behind."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    endings = [signal.SIGTERM, signal.SIGHUP] if threading.current_thread() is threading.main_thread() else []
    before = {ending: signal.getsignal(ending) for ending in endings}
    for ending in endings:
        if before[ending] is signal.SIG_DFL:  # nohup ignores one of them, and that stays
            signal.signal(ending, stop)
    try:
        yield
    finally:
        for ending in endings:
            signal.signal(ending, before[ending])


def quiet_libraries() -> None:
    """No progress bars or advice of other libraries between our lines."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    return make_parser(
        {
            "validate": validate,
            "plan": plan,
            "run": run,
            "worker": worker,
            "proxy": proxy,
            "trials": trials,
            "compare": compare,
            "report": report,
            "dashboard": dashboard,
            "export": export,
            "verify": verify,
            "build": build,
            "optimize": optimize,
            "finetune": finetune,
            "import-olive": import_olive,
            "bench": bench,
            "eval": evaluate,
            "chat": chat,
            "doctor": doctor,
            "provider add": provider_add,
            "recipes list": recipes_list,
            "recipes show": recipes_show,
            "recipes copy": recipes_copy,
        }
    )


def _pairs(overrides: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for item in overrides:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {item}: write it as KEY=VALUE")
        pairs[key] = value
    return pairs


def _load(options: argparse.Namespace, **more: object) -> LanguageStudyConfig:
    from olivine.search.config.language import load_config

    return load_config(options.config, _all_overrides(options, more))


def _all_overrides(options: argparse.Namespace, more: Mapping[str, object]) -> dict[str, str]:
    """What ``--set`` and options of their own say."""
    overrides = _pairs(getattr(options, "overrides", []))
    return overrides | {key: str(value) for key, value in more.items() if value is not None}


def _load_any(options: argparse.Namespace, **more: object) -> LanguageStudyConfig | GraphStudyConfig:
    """A study's config, whatever kind of model it is about."""
    from olivine.search.config.graph import load_any

    return load_any(options.config, _all_overrides(options, more))


def validate(options: argparse.Namespace) -> None:
    """``olivine validate CONFIG``."""
    from olivine.search.config.graph import GraphStudyConfig
    from olivine.search.planning.provider_check import absent_providers

    config = _load_any(options)
    if isinstance(config, GraphStudyConfig):
        from olivine.search.workloads.graph_task import load_task

        load_task(config)
    OUT.print(f"{options.config} is a valid study of {config.model}", markup=False)
    if isinstance(config, GraphStudyConfig):
        return
    for sentence in absent_providers(config):
        OUT.print(sentence, style="yellow", markup=False)


def plan(options: argparse.Namespace) -> None:
    """``olivine plan CONFIG``."""
    from olivine.search.config.graph import GraphStudyConfig
    from olivine.search.planning.plan import lacks, make_plan, plan_table

    config = _load_any(options)
    if isinstance(config, GraphStudyConfig):
        from olivine.search.workloads.graph_run import plan_lines

        OUT.print("\n".join(plan_lines(config)), markup=False)
        return
    found = make_plan(config)
    OUT.print(plan_table(found))
    if lacking := lacks(found):
        raise UsageError("the study does not fit this machine: " + "; ".join(lacking))


def run(options: argparse.Namespace) -> int:
    """``olivine run CONFIG``."""
    from olivine.search.config.graph import GraphStudyConfig
    from olivine.search.planning.plan import require_room
    from olivine.search.planning.provider_check import require_providers
    from olivine.search.selection.lm_eval_tasks import require_tasks
    from olivine.search.study.run import run_study

    more = {"stop.trials": options.trials, "stop.timeout": options.timeout, "seed": options.seed}
    config = _load_any(options, **more)
    root = options.out or Path("results") / config.name
    if isinstance(config, GraphStudyConfig):
        from olivine.search.workloads.graph_run import run_plain

        return run_plain(config, root, options.storage, options.config, OUT, ERR)
    require_providers(config)
    require_tasks(config)
    require_room(config)
    return run_study(config, root, options.storage, options.config, OUT, ERR, options.artifacts)


def worker(options: argparse.Namespace) -> int:
    """``olivine worker CONFIG --storage URL``."""
    from olivine.search.config.quantities import parse_duration
    from olivine.search.study.distributed.join import run_worker

    config = _load(options)
    root = options.out or Path("results") / config.name
    try:
        wait_s = parse_duration(options.wait)
    except ValueError as error:
        raise UsageError(f"--wait {error}") from None
    return run_worker(config, root, options.storage, options.role or ["all"], options.artifacts, wait_s, OUT)


def proxy(options: argparse.Namespace) -> None:
    """``olivine proxy --storage URL``."""
    from olivine.search.study.storage import serve_proxy, shown

    OUT.print(
        f"grpc://{options.host}:{options.port} in front of {shown(options.storage)} (Ctrl-C ends it)", markup=False
    )
    serve_proxy(options.storage, options.host, options.port)


def trials(options: argparse.Namespace) -> None:
    """``olivine trials STUDY_DIR``."""
    from olivine.search.config.graph import load_any
    from olivine.search.records import StudyDir
    from olivine.search.report.tables import trials_json, trials_table

    study = StudyDir.open(options.study)
    if options.json:
        sys.stdout.write(trials_json(study.trials()) + "\n")
    else:
        OUT.print(trials_table(study.trials(), load_any(study.config_path).objectives))


def compare(options: argparse.Namespace) -> None:
    """``olivine compare STUDY_DIR A B``."""
    from olivine.search.records import StudyDir
    from olivine.search.report.tables import compare_table

    study = StudyDir.open(options.study)
    OUT.print(compare_table(study.trial(options.a), study.trial(options.b)))


def report(options: argparse.Namespace) -> None:
    """``olivine report STUDY_DIR``."""
    from olivine.search.records import StudyDir
    from olivine.search.report.report import write_front_picture, write_report

    study = StudyDir.open(options.study)
    OUT.print(str(write_report(study)), markup=False)
    if options.picture:
        OUT.print(str(write_front_picture(study, options.picture)), markup=False)


def dashboard(options: argparse.Namespace) -> None:
    """``olivine dashboard STUDY_DIR``."""
    from olivine.search.records import StudyDir
    from olivine.search.report.dashboard.server import serve

    serve(StudyDir.open(options.study), options.port)


def export(options: argparse.Namespace) -> None:
    """``olivine export STUDY_DIR --to DIR``."""
    from olivine.search.config.graph import GraphStudyConfig, load_any
    from olivine.search.export.trial import export_trial
    from olivine.search.records import StudyDir

    study = StudyDir.open(options.study)
    config = load_any(study.config_path)
    if options.package and isinstance(config, GraphStudyConfig):
        raise UsageError("--package is for language models; without it, DIR holds a model.onnx for any ONNX Runtime")
    if options.package:
        from olivine.search.export.package import package_trial

        to = package_trial(study, options.trial, options.to, options.package, options.force)
        OUT.print(f"packaged as {to}; the README.md in it says how to run it", markup=False)
        return
    if isinstance(config, GraphStudyConfig):
        from olivine.search.workloads.graph_run import export_plain_trial

        to = export_plain_trial(study, config, options.trial, options.to, options.force)
    else:
        to = export_trial(study, options.trial, options.to, options.force)
    OUT.print(f"exported to {to}", markup=False)


def verify(options: argparse.Namespace) -> None:
    """``olivine verify DIR``."""
    from olivine.search.export.graph_folder import VerifiedGraph
    from olivine.search.export.verify import verify_folder

    found = verify_folder(options.folder)
    if isinstance(found, VerifiedGraph):
        OUT.print(
            f"{options.folder}: {found.files} files are what was exported; the graph loads, and its output is what it "
            f"was (cosine distance {found.distance:.2g})",
            markup=False,
        )
        return
    OUT.print(
        f"{options.folder}: {found.files} files are what was exported; the model loads, and predicts the check text at "
        f"{found.nll:.4f} nats a token (at export: {found.expected_nll:.4f})",
        markup=False,
    )


def build(options: argparse.Namespace) -> None:
    """``olivine build MODEL --to DIR``."""
    from olivine.search.builds.calibration_text import CalibrationText, parse_text
    from olivine.search.export.trial import build_one

    to = build_one(
        options.model,
        options.revision,
        options.trust_remote_code,
        _pairs(options.overrides),
        options.to,
        options.force,
        CalibrationText(
            parse_text(options.calibrate_text),
            options.calibrate_windows,
            options.calibrate_window_tokens,
            options.calibrate_seed,
        ),
    )
    OUT.print(f"built {to}", markup=False)


def optimize(options: argparse.Namespace) -> int:
    """``olivine optimize MODEL --to DIR``."""
    from olivine.search.planning.optimize import optimize as search_and_export
    from olivine.search.planning.optimize_request import parse_request

    request = parse_request(
        options.model,
        options.device,
        options.provider,
        options.precision,
        options.budget,
        options.max_loss,
        options.target,
        options.text,
        options.revision,
        options.trust_remote_code,
    )
    return search_and_export(request, options.to, options.force, options.save_config, OUT, ERR)


def finetune(options: argparse.Namespace) -> None:
    """``olivine finetune MODEL --data FILE --to DIR``."""
    from olivine.passes.transforms.finetune import Training
    from olivine.search.cli.commands.finetune import FinetuneRequest
    from olivine.search.cli.commands.finetune import finetune as train

    training = Training(options.max_steps, options.batch_size, options.learning_rate, options.rank, options.seed)
    request = FinetuneRequest(
        options.model,
        options.data,
        options.text_template,
        training,
        options.max_tokens,
        options.held_out,
        options.data_config,
        options.data_split,
        options.revision,
        options.trust_remote_code,
    )
    train(request, options.to, options.force, OUT)


def import_olive(options: argparse.Namespace) -> None:
    """``olivine import-olive WORKFLOW``."""
    from olivine.search.planning.olive.convert import write_study

    found, text = write_study(options.workflow, options.to)
    said = OUT if options.to else ERR
    for place, what in found.kept:
        said.print(f"{place} -> {what}", markup=False, soft_wrap=True)
    for place, why in found.lost:
        said.print(f"no counterpart: {place}: {why}", style="yellow", markup=False, soft_wrap=True)
    if options.to:
        OUT.print(f"written to {options.to}; olivine plan {options.to} says what it takes", markup=False)
    else:
        sys.stdout.write(text)


def bench(options: argparse.Namespace) -> None:
    """``olivine bench DIR ...``."""
    from olivine.passes.artifact import write_atomic
    from olivine.search.report.folder_bench import bench_folders, bench_table, results_json

    reference = options.reference or options.folders[0]
    results = bench_folders(
        options.folders,
        reference,
        options.prompt_tokens,
        options.new_tokens,
        options.half_width,
        options.seconds,
        options.rounds,
    )
    OUT.print(bench_table(results, reference))
    if options.json:
        write_atomic(options.json, results_json(results))


def evaluate(options: argparse.Namespace) -> None:
    """``olivine eval DIR ...``."""
    from olivine.passes.artifact import write_atomic
    from olivine.search.report.folder_bench import results_json
    from olivine.search.report.folder_eval import evaluate_folders, evaluation_table

    if options.tasks:
        return _evaluate_tasks(options)
    if options.limit or options.include_path:
        raise UsageError("--limit and --include-path belong to --tasks; --windows limits how much text is scored")
    text: Any = options.text
    if options.dataset:
        text = {
            "dataset": options.dataset,
            "config": options.dataset_config,
            "split": options.dataset_split,
            "column": options.column,
        }
    elif not str(text).startswith("demo:"):
        text = {"file": text, "column": options.column}
    results = evaluate_folders(
        options.folders,
        options.reference,
        text,
        options.windows,
        options.window_tokens,
        options.protocol,
        options.split,
    )
    OUT.print(evaluation_table(results, options.reference, options.half_width))
    if options.json:
        write_atomic(options.json, results_json(results))


def _evaluate_tasks(options: argparse.Namespace) -> None:
    """``olivine eval DIR ... --tasks NAME``."""
    from olivine.evaluators.quality.lm_eval import Tasks
    from olivine.passes.artifact import write_atomic
    from olivine.search.report.folder_bench import results_json
    from olivine.search.report.folder_tasks import evaluate_tasks, tasks_table

    names = [name.strip() for given in options.tasks for name in given.split(",") if name.strip()]
    tasks = Tasks(tuple(dict.fromkeys(names)), options.limit, options.include_path)
    with ERR.status("loading the tasks") as status:
        results = evaluate_tasks(
            options.folders,
            options.reference,
            tasks,
            lambda folder, answered: status.update(f"{folder}: {answered} requests answered"),
        )
    OUT.print(tasks_table(results, options.reference))
    if options.json:
        write_atomic(options.json, results_json(results))


def chat(options: argparse.Namespace) -> None:
    """``olivine chat DIR``."""
    from olivine.search.cli.commands.chat import chat as talk

    talk(options.folder, options.prompt, options.max_new_tokens, OUT)


def provider_add(options: argparse.Namespace) -> int:
    """``olivine provider add NAME``."""
    from olivine.search.cli.commands.provider_add import add_provider

    return add_provider(options.provider, options.to, options.python, OUT)


def recipes_list(options: argparse.Namespace) -> None:
    """``olivine recipes list``."""
    from olivine.search.planning.ready_studies import ready_recipes

    for recipe in ready_recipes():
        OUT.print(f"{recipe.name:<14} {recipe.purpose}", markup=False, soft_wrap=True)


def recipes_show(options: argparse.Namespace) -> None:
    """``olivine recipes show NAME``."""
    from olivine.search.planning.ready_studies import ready_recipe

    sys.stdout.write(ready_recipe(options.name).path.read_text(encoding="utf-8"))


def recipes_copy(options: argparse.Namespace) -> None:
    """``olivine recipes copy NAME --to FILE``."""
    from olivine.search.planning.ready_studies import copy_recipe

    to = copy_recipe(options.name, options.to)
    OUT.print(f"copied to {to}; olivine plan {to} says what it takes", markup=False)


def doctor(options: argparse.Namespace) -> int:
    """``olivine doctor``."""
    from olivine.search.cli.commands.doctor import doctor as examine

    return examine(OUT, options.python)


if __name__ == "__main__":
    sys.exit(main())
