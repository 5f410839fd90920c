"""``olivine optimize``: search for the best build of a model within a budget, and export it."""

from __future__ import annotations

import argparse

from olivine.search.cli.command import Command
from olivine.search.cli.json_option import add_json, write_answer
from olivine.search.cli.options import add_hub_options, add_model, add_scenario, add_target, target_file, user_path
from olivine.search.cli.terminal import errors, output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine optimize``."""
    add_model(parser)
    add_target(parser)
    parser.add_argument("--device", help="cpu or gpu; by default a GPU whose provider works here, else the CPU")
    parser.add_argument("--provider", metavar="P", help="an execution provider, such as cpu, cuda or openvino")
    parser.add_argument("--precision", help="the only one to search; by default all that pay: int8, int4, mixed")
    what = "time for everything, such as 10m; 0 builds without measuring"
    parser.add_argument("--budget", default="10m", help=what)
    what = "how much perplexity may grow, such as 5%%"
    parser.add_argument("--max-loss", default="5%", metavar="SHARE", help=what)
    parser.add_argument("--target", default="decode", help="what is to be best: decode, prefill or size")
    what = "text to score on; the demo's or WikiText-2 by default"
    parser.add_argument("--text", metavar="FILE", help=what)
    add_scenario(parser, "the use to measure and export for")
    what = "beside llama.cpp and OpenVINO too, after the budget; DIR has their environments, envs/peers by default"
    parser.add_argument("--peers", nargs="?", const="envs/peers", type=user_path, metavar="DIR", help=what)
    what = "most resident memory in the scenario, such as 600MB; in 'chat' where none is named"
    parser.add_argument("--fit", metavar="SIZE", help=what)
    add_hub_options(parser)
    parser.add_argument("--save-config", type=target_file, metavar="FILE", help="write the YAML of what is run")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Search, export and verify."""
    from olivine.search.answers.study import optimized_answer
    from olivine.search.planning.optimize import Optimizer
    from olivine.search.planning.optimize_request import OptimizeWords

    words = OptimizeWords(
        model=options.model,
        device=options.device or "",
        provider=options.provider or "",
        precision=options.precision or "",
        budget=options.budget,
        max_loss=options.max_loss,
        target=options.target,
        text=options.text or "",
        scenario=options.scenario or "",
        fit=options.fit or "",
        revision=options.revision,
        trust_remote_code=options.trust_remote_code,
        peers=str(options.peers or ""),
    )
    optimizer = Optimizer(words.parse(), options.to, output(options.save_config), options.force, options.save_config)
    code, study = None, optimizer.study_dir
    try:
        code = optimizer.run(errors())
    finally:
        if code == 0 or study.config_path.is_file():
            write_answer(options, lambda: optimized_answer(options.to if code == 0 else None, study))
    return code


COMMANDS = (
    Command("optimize", "search for the best build of a model within a budget, and export it", add_arguments, run),
)
