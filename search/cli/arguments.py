"""The arguments of every command, their defaults and what ``--help`` says of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

#: Runs a command with its parsed arguments; returns its exit code, None for 0.
Command = Callable[[argparse.Namespace], int | None]

STORAGES = "where workers meet: postgresql://, mysql://, sqlite:/// or grpc://HOST:PORT"
ARTIFACTS = "URL, such as s3://bucket/path, where records meet if workers share no study folder"


def make_parser(runs: Mapping[str, Command]) -> argparse.ArgumentParser:
    """The command line, as ``--help`` shows it.

    Args:
        runs: name of every command -> what runs it; parsed arguments have it as ``command``.
    """
    root = argparse.ArgumentParser(
        prog="olivine", description="Search-driven AutoML optimizer for ONNX language models."
    )
    root.add_argument("--debug", action="store_true", help="show a traceback with an error")
    commands = root.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=runs[name])
        return sub

    sub = command("validate", "name every mistake in a config, before any work")
    sub.add_argument("config", type=Path)
    sub = command("plan", "axes, candidates, memory, disk and time of a study; builds nothing")
    sub.add_argument("config", type=Path)
    _overrides(sub)
    sub = command("run", "run a study, or resume the one in its folder")
    sub.add_argument("config", type=Path)
    sub.add_argument("--trials", type=int, help="candidates to measure (stop.trials)")
    sub.add_argument("--timeout", help="wall-clock time of the search, such as 30m (stop.timeout)")
    sub.add_argument("--seed", type=int, help="seed of the study")
    sub.add_argument("--out", type=Path, help="the study folder; results/NAME by default")
    sub.add_argument("--storage", metavar="URL", help=f"{STORAGES}; SQLite in the study folder by default")
    sub.add_argument("--artifacts", default="", metavar="URL", help=ARTIFACTS)
    _overrides(sub)
    sub = command("worker", "join a study that 'olivine run' leads, from another process or machine")
    sub.add_argument("config", type=Path)
    sub.add_argument("--storage", metavar="URL", required=True, help=STORAGES)
    what = "what to do of each trial: build, quality, latency or all; repeatable"
    sub.add_argument("--role", action="append", choices=("build", "quality", "latency", "all"), help=what)
    sub.add_argument("--out", type=Path, help="the study folder, or one of its own with the same name; results/NAME")
    sub.add_argument("--artifacts", default="", metavar="URL", help=ARTIFACTS)
    sub.add_argument("--wait", default="30m", help="longest wait for the study's base, such as 30m")
    _overrides(sub)
    sub = command("proxy", "serve Optuna's gRPC proxy in front of a database, for many workers")
    sub.add_argument("--storage", metavar="URL", required=True, help="the database, such as postgresql://...")
    sub.add_argument("--host", default="localhost", help="address to listen on; anybody who reaches it is let in")
    sub.add_argument("--port", type=int, default=13000)
    sub = command("trials", "table of a study's trials")
    sub.add_argument("study", type=Path)
    sub.add_argument("--json", action="store_true", help="the records as JSON")
    sub = command("compare", "two trials of a study side by side")
    sub.add_argument("study", type=Path)
    sub.add_argument("a", type=int)
    sub.add_argument("b", type=int)
    sub = command("report", "write a study's self-contained report.html")
    sub.add_argument("study", type=Path)
    sub.add_argument("--picture", type=Path, metavar="FILE", help="write the front as an SVG picture too")
    sub = command("dashboard", "optuna-dashboard on a study, on this machine only")
    sub.add_argument("study", type=Path)
    sub.add_argument("--port", type=int, default=8080)
    sub = command("export", "export a trial as an ONNX Runtime GenAI folder")
    sub.add_argument("study", type=Path)
    sub.add_argument("--trial", type=int, help="trial number; the selected one by default")
    what = "with a script that runs it: a zip file, or a folder to build a container image from"
    sub.add_argument("--package", choices=("zip", "docker"), help=what)
    _target(sub)
    sub = command("verify", "check an exported folder: hashes, load, quality")
    sub.add_argument("folder", type=Path)
    sub = command("build", "build one recipe, without a search")
    sub.add_argument("model", help="hub id, checkpoint folder, GGUF file, ONNX GenAI folder or demo:... model")
    sub.add_argument("--revision", help="branch, tag or commit of a hub model")
    sub.add_argument("--trust-remote-code", action="store_true", help="run code that the checkpoint brings")
    _target(sub)
    _overrides(sub, "an axis of the search space")
    what = "text that algorithm=gptq learns from: demo:news, a file, or {dataset: ID, config: ...}"
    sub.add_argument("--calibrate-text", default="demo:news", metavar="TEXT", help=what)
    sub.add_argument("--calibrate-windows", type=int, default=16, metavar="N", help="at most this many windows of it")
    sub.add_argument("--calibrate-window-tokens", type=int, default=512, metavar="N", help="tokens per window")
    sub.add_argument("--calibrate-seed", type=int, default=0, metavar="N", help="of the split and choice of windows")
    sub = command("optimize", "search for the best build of a model within a budget, and export it")
    sub.add_argument("model", help="hub id, checkpoint folder, GGUF file, ONNX GenAI folder or demo:... model")
    _target(sub)
    sub.add_argument("--device", help="cpu or gpu; by default a GPU whose provider works here, else the CPU")
    sub.add_argument("--provider", metavar="P", help="an execution provider, such as cpu, cuda or openvino")
    sub.add_argument("--precision", help="the only one to search; by default all that pay: int8, int4, mixed")
    sub.add_argument("--budget", default="10m", help="time for everything, such as 10m; 0 builds without measuring")
    sub.add_argument("--max-loss", default="5%", metavar="SHARE", help="how much perplexity may grow, such as 5%%")
    sub.add_argument("--target", default="decode", help="what is to be best: decode, prefill or size")
    sub.add_argument("--text", metavar="FILE", help="text to score on; the demo's or WikiText-2 by default")
    sub.add_argument("--revision", help="branch, tag or commit of a hub model")
    sub.add_argument("--trust-remote-code", action="store_true", help="run code that the checkpoint brings")
    sub.add_argument("--save-config", type=Path, metavar="FILE", help="write the YAML of what is run")
    sub = command("finetune", "fine-tune a checkpoint with LoRA, merged into a checkpoint that studies take")
    sub.add_argument("model", help="hub id, checkpoint folder, GGUF file or demo:... model")
    _target(sub)
    sub.add_argument("--data", required=True, help=".jsonl, .csv, .parquet or plain text file, or id of a data set")
    what = r"how a row becomes a text, such as '### Question: {instruction}\n### Answer: {response}'; {text} by default"
    sub.add_argument("--text-template", default="{text}", metavar="TEXT", help=what)
    sub.add_argument("--data-config", help="configuration of the data set")
    sub.add_argument("--data-split", default="train", help="split of the data set")
    sub.add_argument("--max-steps", type=_positive, default=100, metavar="N", help="optimizer steps")
    sub.add_argument("--batch-size", type=_positive, default=4, metavar="N", help="pieces of text in a step")
    sub.add_argument("--max-tokens", type=_positive, default=256, metavar="N", help="tokens of a piece; texts are cut")
    sub.add_argument("--learning-rate", type=_rate, default=2e-4, metavar="RATE", help="the highest one")
    sub.add_argument("--rank", type=_positive, default=16, metavar="N", help="rank of LoRA's matrices")
    sub.add_argument("--held-out", type=_share, default=0.1, help="share of the texts that is not trained on")
    sub.add_argument("--seed", type=int, default=0, help="of LoRA's start, the order and the held-out texts")
    sub.add_argument("--revision", help="branch, tag or commit of a hub model")
    sub.add_argument("--trust-remote-code", action="store_true", help="run code that the checkpoint brings")
    sub = command("import-olive", "write the study that means what a workflow of Olive means")
    sub.add_argument("workflow", type=Path, help="its JSON (or YAML) file")
    sub.add_argument("--to", type=Path, metavar="FILE", help="the YAML to write; printed by default")
    sub = command("bench", "paired latency of model folders")
    sub.add_argument("folders", type=Path, nargs="+", metavar="DIR")
    sub.add_argument("--reference", type=Path, help="what the others are compared with; the first by default")
    sub.add_argument("--prompt-tokens", type=int, default=128)
    sub.add_argument("--new-tokens", type=int, default=32)
    sub.add_argument(
        "--half-width",
        type=_share,
        default=0.02,
        help="stop at this half-width of the interval, without what neighbours on a host do",
    )
    sub.add_argument("--seconds", type=float, default=20.0, help="or after this long per pair")
    sub.add_argument("--rounds", type=int, help="or after this many rounds that count")
    sub.add_argument("--json", type=Path, metavar="FILE")
    sub = command("eval", "perplexity of model folders, and their distance to a reference")
    sub.add_argument("folders", type=Path, nargs="+", metavar="DIR")
    sub.add_argument("--reference", type=Path)
    sub.add_argument("--text", help="demo:news or a local file", default="demo:news")
    sub.add_argument("--dataset", help="a hub dataset instead of --text")
    sub.add_argument("--dataset-config", help="its configuration")
    sub.add_argument("--dataset-split", default="test", help="its split")
    sub.add_argument("--column", default="text", help="the column with the text")
    sub.add_argument("--windows", type=int, help="windows to score; the whole text by default")
    sub.add_argument("--split", help="calibrate, select or confirm: a part of the text; all of it by default")
    sub.add_argument("--window-tokens", type=int, default=512)
    sub.add_argument("--protocol", help="wikitext2-hf or wikitext2-gptq")
    what = "of a perplexity ratio, such as 1%%; a warning says what text would reach it"
    sub.add_argument("--half-width", type=_share, default=0.01, help=what)
    what = "tasks of lm-eval instead of a text, such as arc_easy,piqa; repeatable (pip install 'olivine[lm-eval]')"
    sub.add_argument("--tasks", action="append", metavar="NAME[,NAME]", help=what)
    sub.add_argument("--limit", type=_positive, metavar="N", help="questions of each task, from its start")
    sub.add_argument("--include-path", type=Path, metavar="DIR", help="folder with task files of your own")
    sub.add_argument("--json", type=Path, metavar="FILE")
    sub = command("chat", "talk to an exported folder")
    sub.add_argument("folder", type=Path)
    sub.add_argument("--prompt", help="one prompt instead of a conversation")
    sub.add_argument("--max-new-tokens", type=int, default=256)
    sub = commands.add_parser("provider", help="environments of execution providers")
    of = sub.add_subparsers(title="commands", required=True, metavar="COMMAND")
    sub = of.add_parser("add", help="make an environment of its own for a provider, with pinned packages")
    sub.set_defaults(command=runs["provider add"])
    sub.add_argument("provider", help="openvino, cuda, ...")
    sub.add_argument("--to", type=Path, metavar="DIR", help="the environment; envs/NAME by default")
    sub.add_argument("--python", default=sys.executable, help="the interpreter that it is made from")
    sub = commands.add_parser("recipes", help="ready studies for model families")
    of = sub.add_subparsers(title="commands", required=True, metavar="COMMAND")
    sub = of.add_parser("list", help="their names and what they are for")
    sub.set_defaults(command=runs["recipes list"])
    sub = of.add_parser("show", help="the YAML of one")
    sub.set_defaults(command=runs["recipes show"])
    sub.add_argument("name", help="family and device, such as qwen/cpu")
    sub = of.add_parser("copy", help="copy one, to change it")
    sub.set_defaults(command=runs["recipes copy"])
    sub.add_argument("name", help="family and device, such as qwen/cpu")
    sub.add_argument("--to", type=Path, required=True, metavar="FILE", help="the file to make")
    sub = command("doctor", "what works here: versions, providers, memory, disk, hub")
    sub.add_argument("--python", help="the interpreter whose ONNX Runtime is asked; each provider's own by default")
    return root


def _overrides(sub: argparse.ArgumentParser, what: str = "a dotted path of the YAML") -> None:
    sub.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help=f"set {what}; repeatable",
    )


def _share(text: str) -> float:
    """``2%`` or 0.02."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no share between 0 and 1; give it as 2% or 0.02")
    return share


def _positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number above 0")
    return int(text)


def _rate(text: str) -> float:
    """A learning rate."""
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no learning rate between 0 and 1, such as 2e-4")
    return rate


def _target(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--to", type=Path, required=True, metavar="DIR", help="the folder to make")
    sub.add_argument("--force", action="store_true", help="replace an existing folder")
