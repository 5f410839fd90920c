"""``olivine build``: build one recipe, without a search."""

from __future__ import annotations

import argparse
import json

from olivine.passes.errors import UsageError
from olivine.search.cli.command import Command
from olivine.search.cli.json_option import add_json, write_answer
from olivine.search.cli.options import (
    adapter_folders,
    add_adapters,
    add_hub_options,
    add_model,
    add_overrides,
    add_target,
    overrides,
)
from olivine.search.cli.terminal import output
from olivine.search.report.say import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine build``."""
    add_model(parser)
    add_target(parser)
    add_hub_options(parser)
    add_overrides(parser, "an axis of the search space")
    what = "text that gptq, kv_cache and others learn from: demo:news, a file, or {dataset: ID, config: ...}"
    parser.add_argument("--calibrate-text", default="demo:news", metavar="TEXT", help=what)
    what = "at most this many windows of it"
    parser.add_argument("--calibrate-windows", type=int, default=16, metavar="N", help=what)
    parser.add_argument("--calibrate-window-tokens", type=int, default=512, metavar="N", help="tokens per window")
    what = "a further text to learn from, as many windows of it; may be given several times"
    parser.add_argument("--calibrate-also", action="append", default=[], metavar="TEXT", help=what)
    what = "share of all windows that the float model writes itself, such as 0.5"
    parser.add_argument("--calibrate-own", type=float, default=0.0, metavar="SHARE", help=what)
    what = "of the split and choice of windows, and of a graph's samples"
    parser.add_argument("--calibrate-seed", type=int, default=0, metavar="N", help=what)
    what = (
        "of a graph that is no language model: the section 'inputs' of its study, such as '{shapes: {one: {batch: 1}}}'"
    )
    parser.add_argument("--inputs", metavar="YAML", help=what)
    parser.add_argument("--architecture", help="of such an .onnx file, for fusion: bert, vit, ...")
    add_adapters(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Build the recipe and export it."""
    from olivine.search.answers.folders import MadeFolder
    from olivine.search.builds.calibration_text import CalibrationText, parse_text
    from olivine.search.export.adapters import adapter_notes
    from olivine.search.export.folder import MANIFEST
    from olivine.search.export.model_card import base_notes
    from olivine.search.planning.build_one import BuildRequest, GraphInputs, build_one

    if options.architecture and options.inputs is None:
        raise UsageError("--architecture goes with --inputs, which say that the model is a graph")
    if not 0 <= options.calibrate_own < 1:
        raise UsageError(f"--calibrate-own {options.calibrate_own:g}: takes a share from 0 on and below 1, such as 0.5")

    calibration = CalibrationText(
        parse_text(options.calibrate_text),
        options.calibrate_windows,
        options.calibrate_window_tokens,
        options.calibrate_seed,
        tuple(map(parse_text, options.calibrate_also)),
        options.calibrate_own,
    )
    request = BuildRequest(
        options.model,
        overrides(options.overrides),
        revision=options.revision,
        trust_remote_code=options.trust_remote_code,
        calibration=calibration,
        inputs=None if options.inputs is None else GraphInputs(options.inputs, options.architecture),
        adapters=adapter_folders(options.adapters),
    )
    folder = build_one(request, options.to, options.force)
    say(output(), f"built {folder}")
    about = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    notes, cautions = base_notes(about), adapter_notes(about)
    for note in notes:
        say(output(), note)
    for note in cautions:
        say(output(), note, style="yellow")
    write_answer(options, lambda: MadeFolder(path=str(folder), trial=None, notes=[*notes, *cautions]))
    return 0


COMMANDS = (Command("build", "build one recipe, without a search", add_arguments, run),)
