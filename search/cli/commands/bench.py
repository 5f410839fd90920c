"""``olivine bench``: paired latency of model folders."""

from __future__ import annotations

import argparse

from olivine.passes.errors import UsageError
from olivine.search.cli.command import Command
from olivine.search.cli.json_option import add_json, write_answer
from olivine.search.cli.options import add_scenario, scenario_of, seconds, share, user_path
from olivine.search.cli.terminal import output

#: Half-width and seconds of a pair, where nothing else is said.
HALF_WIDTH, SECONDS = 0.02, 20.0
#: Most tokens of an answer that is timed with guesses, where nothing else is said.
ANSWER_TOKENS = 128


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine bench``."""
    parser.add_argument("folders", type=user_path, nargs="+", metavar="DIR")
    parser.add_argument("--reference", type=user_path, help="what the others are compared with; the first by default")
    parser.add_argument("--prompt-tokens", type=int, help="128 by default")
    parser.add_argument("--new-tokens", type=int, help="32 by default")
    add_scenario(parser, "time its prompt and answer, and run each folder through it as it is deployed")
    what = f"stop at this half-width of the interval, without what neighbours on a host do; {HALF_WIDTH} by default"
    parser.add_argument("--half-width", type=share, help=what)
    parser.add_argument("--seconds", type=seconds, help=f"or after this long per pair; {SECONDS:g} by default")
    parser.add_argument("--rounds", type=int, help="or after this many rounds that count")
    what = "instead, time a folder's greedy answers to these prompts (a file, or demo:code-edit-held-back) with and "
    what += "without guesses from n-grams"
    parser.add_argument("--speculation", type=user_path, metavar="PROMPTS", help=what)
    what = "also time each DIR with this LoRA adapter of it active; may be given several times"
    parser.add_argument("--adapter", action="append", default=[], metavar="NAME", dest="adapters", help=what)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Time the folders against the reference, or one folder's answers with and without guesses."""
    if options.speculation is not None:
        return _time_guesses(options)
    from olivine.evaluators.bench import bench_folders
    from olivine.evaluators.latency.decoder import PairedDecoderLatency
    from olivine.search.answers.folders import results_answer
    from olivine.search.report.folder_tables import bench_table

    reference = options.reference or options.folders[0]
    lengths = {name: getattr(options, name) for name in ("prompt_tokens", "new_tokens")}
    named = {name: length for name, length in lengths.items() if length is not None}
    scenario = scenario_of(options)
    if scenario is not None and named:
        raise UsageError("--scenario says how long prompt and answer are; leave --prompt-tokens and --new-tokens out")
    latency = PairedDecoderLatency(
        half_width=HALF_WIDTH if options.half_width is None else options.half_width,
        max_seconds=SECONDS if options.seconds is None else options.seconds,
        max_rounds=options.rounds,
        **named,
    )
    results = bench_folders(options.folders, reference, latency, scenario, options.adapters)
    output().print(bench_table(results, reference))
    write_answer(options, lambda: results_answer(results))
    return 0


def _time_guesses(options: argparse.Namespace) -> int:
    from olivine.evaluators.scenario.guesses import time_guesses
    from olivine.search.answers.folders import guesses_answer
    from olivine.search.report.folder_tables import guesses_table

    others = ("reference", "prompt_tokens", "scenario", "half_width", "seconds", "rounds")
    named = options.adapters or any(getattr(options, name) is not None for name in others)
    if len(options.folders) > 1 or named:
        raise UsageError("--speculation times one folder, and takes --new-tokens beside it alone")
    most = ANSWER_TOKENS if options.new_tokens is None else options.new_tokens
    timed = time_guesses(options.folders[0], options.speculation, most)
    output().print(guesses_table(timed))
    write_answer(options, lambda: guesses_answer(timed))
    return 0


COMMANDS = (Command("bench", "paired latency of model folders", add_arguments, run),)
