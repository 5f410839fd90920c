"""``olivine finetune``: fine-tune a checkpoint with LoRA, merged into one that studies take, or kept as an adapter."""

from __future__ import annotations

import argparse

from olivine.search.cli.command import Command
from olivine.search.cli.options import add_hub_options, add_model, add_target, positive, share
from olivine.search.cli.terminal import output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine finetune``."""
    add_model(parser, "hub id, checkpoint folder, GGUF file or demo:... model")
    add_target(parser)
    what = ".jsonl, .csv, .parquet or plain text file, compressed or not, or id of a data set"
    parser.add_argument("--data", required=True, help=what)
    what = r"how a row becomes a text, such as '### Question: {instruction}\n### Answer: {response}'; {text} by default"
    parser.add_argument("--text-template", default="{text}", metavar="TEXT", help=what)
    parser.add_argument("--data-config", help="configuration of the data set")
    parser.add_argument("--data-split", default="train", help="split of the data set")
    parser.add_argument("--max-steps", type=positive, default=100, metavar="N", help="optimizer steps")
    parser.add_argument("--batch-size", type=positive, default=4, metavar="N", help="pieces of text in a step")
    what = "tokens of a piece; texts are cut"
    parser.add_argument("--max-tokens", type=positive, default=256, metavar="N", help=what)
    parser.add_argument("--learning-rate", type=_rate, default=2e-4, metavar="RATE", help="the highest one")
    parser.add_argument("--rank", type=positive, default=16, metavar="N", help="rank of LoRA's matrices")
    parser.add_argument("--held-out", type=share, default=0.1, help="share of the texts that is not trained on")
    parser.add_argument("--seed", type=int, default=0, help="of LoRA's start, the order and the held-out texts")
    what = "write an adapter for 'olivine export --adapter NAME=DIR' instead of a merged checkpoint"
    parser.add_argument("--adapter", action="store_true", help=what)
    add_hub_options(parser)


def _rate(text: str) -> float:
    """Parse a learning rate."""
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no learning rate between 0 and 1, such as 2e-4")
    return rate


def run(options: argparse.Namespace) -> int:
    """Train, merge or keep the adapter, and score."""
    from olivine.passes.learn.finetune import Training
    from olivine.search.planning.finetune import FinetuneRequest, finetune

    training = Training(options.max_steps, options.batch_size, options.learning_rate, options.rank, options.seed)
    request = FinetuneRequest(
        options.model,
        options.data,
        options.text_template,
        training,
        longest=options.max_tokens,
        held_out=options.held_out,
        data_config=options.data_config,
        data_split=options.data_split,
        revision=options.revision,
        trust_remote_code=options.trust_remote_code,
        adapter=options.adapter,
    )
    finetune(request, options.to, options.force, output())
    return 0


COMMANDS = (
    Command(
        "finetune", "fine-tune a checkpoint with LoRA, merged into a checkpoint that studies take", add_arguments, run
    ),
)
