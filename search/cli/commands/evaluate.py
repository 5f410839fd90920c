"""``olivine eval``: quality of model folders, on a text or on tasks of lm-eval."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from olivine.passes.errors import UsageError
from olivine.search.cli.command import Command
from olivine.search.cli.json_option import add_json, write_answer
from olivine.search.cli.options import positive, share, user_path
from olivine.search.cli.terminal import errors, output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine eval``."""
    parser.add_argument("folders", type=user_path, nargs="+", metavar="DIR")
    what = "a model folder, or a model as 'model:' of a study takes it, whose float weights are read a layer at a time"
    parser.add_argument("--reference", type=user_path, metavar="DIR|MODEL", help=what)
    parser.add_argument("--text", help="demo:news or a local file", default="demo:news")
    parser.add_argument("--dataset", help="a hub dataset instead of --text")
    parser.add_argument("--dataset-config", help="its configuration")
    parser.add_argument("--dataset-split", default="test", help="its split")
    parser.add_argument("--column", default="text", help="the column with the text")
    parser.add_argument("--windows", type=int, help="windows to score; the whole text by default")
    parser.add_argument("--split", help="calibrate, select or confirm: a part of the text; all of it by default")
    parser.add_argument("--window-tokens", type=int, default=512)
    parser.add_argument("--protocol", help="wikitext2-hf or wikitext2-gptq")
    what = "of a perplexity ratio, such as 1%%; a warning says what text would reach it"
    parser.add_argument("--half-width", type=share, default=0.01, help=what)
    what = "tasks of lm-eval instead of a text, such as arc_easy,piqa; repeatable (pip install 'olivine[lm-eval]')"
    parser.add_argument("--tasks", action="append", metavar="NAME[,NAME]", help=what)
    parser.add_argument("--limit", type=positive, metavar="N", help="questions of each task, from its start")
    parser.add_argument("--include-path", type=user_path, metavar="DIR", help="folder with task files of your own")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Score the folders on a text, or on tasks where some are named."""
    from olivine.search.answers.folders import results_answer

    results = _on_tasks(options) if options.tasks else _on_text(options)
    write_answer(options, lambda: results_answer(results))
    return 0


def _on_text(options: argparse.Namespace) -> Any:
    from olivine.evaluators.evaluate_folders import ScoredText, evaluate_against_checkpoint, evaluate_folders
    from olivine.search.report.folder_tables import evaluation_table

    if options.limit or options.include_path:
        raise UsageError("--limit and --include-path belong to --tasks; --windows limits how much text is scored")
    text = ScoredText(_text(options), options.windows, options.window_tokens, options.protocol, options.split)
    reference = options.reference
    if reference is None or (reference / "genai_config.json").is_file():
        results = evaluate_folders(options.folders, reference, text)
    else:
        reference = _checkpoint(str(reference))
        results = evaluate_against_checkpoint(options.folders, reference, text, errors().print)
    output().print(evaluation_table(results, reference, options.half_width))
    return results


def _checkpoint(model: str) -> Path:
    """The Hugging Face folder of a model, in floats."""
    from olivine.passes.pipeline import source_artifact
    from olivine.passes.sources.source import resolve
    from olivine.passes.store.cache import Cache, cache_root

    return source_artifact(resolve(model), Cache(cache_root())).path


def _text(options: argparse.Namespace) -> str | dict[str, Any]:
    """The text as a YAML would name it."""
    if options.dataset:
        return {
            "dataset": options.dataset,
            "config": options.dataset_config,
            "split": options.dataset_split,
            "column": options.column,
        }
    text = str(options.text)
    return text if text.startswith("demo:") else {"file": text, "column": options.column}


def _on_tasks(options: argparse.Namespace) -> Any:
    from olivine.evaluators.evaluate_tasks import evaluate_tasks
    from olivine.evaluators.quality.lm_eval import Tasks
    from olivine.search.report.folder_tables import tasks_table

    names = [name.strip() for words in options.tasks for name in words.split(",") if name.strip()]
    tasks = Tasks(tuple(dict.fromkeys(names)), options.limit, options.include_path)
    err = errors()
    spinner = "line" if err.options.ascii_only else "dots"
    with err.status("loading the tasks", spinner=spinner) as status:
        results = evaluate_tasks(
            options.folders,
            options.reference,
            tasks,
            lambda folder, answered: status.update(f"{folder}: {answered} requests answered"),
        )
    output().print(tasks_table(results, options.reference))
    return results


COMMANDS = (Command("eval", "perplexity of model folders, and their distance to a reference", add_arguments, run),)
