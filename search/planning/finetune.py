"""``olivine finetune``: train a checkpoint on a text of one's own, before a study makes it small and fast."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from olivine.evaluators.data.tokenizing import ChatTemplate
from olivine.evaluators.data.training_rows import hold_out, read_rows, token_pieces
from olivine.evaluators.stats import Interval, clustered_mean
from olivine.passes.errors import UsageError
from olivine.passes.learn.finetune import Finetune, Training, Tuned, last_checkpoint, require_package, step_of
from olivine.passes.pipeline import source_artifact
from olivine.passes.sources.source import resolve
from olivine.passes.store.atomic_files import make_folder, replace_folder, staging_folder, write_atomic
from olivine.passes.store.cache import Cache, cache_root
from olivine.passes.store.digests import digest
from olivine.search.report.say import say

#: File beside the checkpoint: the request, and the loss before and after.
FILE = "finetune.json"
_REQUEST = "request.json"
#: Most held-out pieces that are scored: more would take longer than training, and narrow the intervals little.
MOST_HELD_OUT = 64


@dataclass(frozen=True)
class FinetuneRequest:
    """A checkpoint, the data, and how to train on it.

    Attributes:
        model: what :func:`olivine.passes.sources.source.resolve` takes.
        data: file, ``demo:news`` or id of a data set.
        template: makes a text of a row, such as ``{text}``.
        training: steps, batch, rate and rank.
        longest: tokens of a piece of text.
        held_out: share of the different texts that is not trained on.
        data_config: the data set's configuration.
        data_split: its split.
        revision: of a hub model.
        trust_remote_code: run code that the checkpoint brings.
        adapter: write an adapter for exports of the model, instead of a checkpoint with it merged.
    """

    model: str
    data: str
    template: str
    training: Training = field(default_factory=Training)
    longest: int = 256
    held_out: float = 0.1
    data_config: str | None = None
    data_split: str = "train"
    revision: str | None = None
    trust_remote_code: bool = False
    adapter: bool = False


def finetune(request: FinetuneRequest, to: Path, force: bool, out: Console) -> None:
    """Train, and write the merged checkpoint, or the adapter, to ``to`` with ``finetune.json``.

    The same command resumes after a stop.

    Raises:
        UsageError: when peft is not installed; for an existing folder, data that lacks a column of the template or is
            too little; for a model that is no checkpoint; or where another fine-tuning to ``to`` was interrupted.
        BuildFailed: when training diverges.
    """
    require_package()
    _check_target(to, force)
    source = resolve(request.model, revision=request.revision, trust_remote_code=request.trust_remote_code)
    if source.kind == "onnx":
        raise UsageError(
            f"{request.model} is an ONNX graph; fine-tuning takes a checkpoint, and the graph comes after it"
        )
    # The model is fetched for chat messages alone: mistakes in other data are told before.
    chat_template = cache(lambda: ChatTemplate(source_artifact(source, Cache(cache_root())).path))
    rows = read_rows(request.data, request.data_config, request.data_split)
    texts = rows.texts(request.template, lambda messages: chat_template().render(messages))
    train, held_out = hold_out(texts, request.held_out, request.training.seed)
    work = to.with_name(f"{to.name}-finetune")
    about = asdict(request)
    if not request.adapter:
        del about["adapter"]  # a fine-tuning that an earlier version began has no such field
    _claim(work, {**about, "model_key": source.key, "texts": digest(texts)})
    folder = chat_template().folder
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=request.trust_remote_code)
    learned, scored = (token_pieces(texts, tokenizer, request.longest) for texts in (train, held_out))
    if not learned or not scored:
        raise UsageError(f"--data: {request.data} has too few tokens to learn from and to hold out")
    scored = scored[:MOST_HELD_OUT]
    steps, batch = request.training.max_steps, request.training.batch_size
    tokens = sum(len(piece) for _, piece in learned)
    say(out, f"{len(train)} texts, {tokens} tokens in {len(learned)} pieces; {len(held_out)} texts are held out")
    say(out, f"{steps} steps of {batch} pieces: {steps * batch / len(learned):.2g} times through them")
    if (last := last_checkpoint(work)) is not None:
        say(out, f"resumes at step {step_of(last)}")
    began = time.monotonic()
    first = 0 if last is None else step_of(last)

    def report_step(step: int, loss: float) -> None:
        step_s = (time.monotonic() - began) / max(1, step - first)
        say(out, f"step {step}/{steps}: loss {loss:.3f} nats a token, {step_s:.2g} s a step")

    job = Finetune(
        request.training,
        request.trust_remote_code,
        report_step,
        lambda sentence: say(out, f"{sentence} ..."),
        request.model if request.adapter else None,
    )
    to.parent.mkdir(parents=True, exist_ok=True)
    with staging_folder(to.parent, to.name) as new:
        try:
            tuned = job.apply(folder, [p for _, p in learned], [p for _, p in scored], work, new)
        except KeyboardInterrupt:
            last = last_checkpoint(work)
            where = "the beginning" if last is None else f"step {step_of(last)}"
            say(out, f"stopped; the same command resumes at {where} ({work})")
            raise
        losses = _losses(tuned, scored)
        report = {
            "request": asdict(request),
            "model_key": source.key,
            "texts": {"trained": len(train), "held_out": len(held_out)},
            "pieces": {"trained": len(learned), "held_out": len(scored)},
            "tokens": {"trained": tokens, "held_out": sum(len(p) - 1 for _, p in scored)},
            "trained_weights": tuned.trained_weights,
            "training_loss": [list(pair) for pair in tuned.losses],
            "held_out_loss": losses,
            "versions": {name: version(name) for name in ("olivine", "torch", "transformers", "peft")},
        }
        (new / FILE).write_text(json.dumps(report, indent=1), encoding="utf-8")
        replace_folder(new, to)
    shutil.rmtree(work)
    _say_losses(losses, out)
    if request.adapter:
        say(out, f"{to} is an adapter: olivine export STUDY --to DIR --adapter NAME={to}; see {to / FILE}")
    else:
        say(out, f"{to} is a checkpoint: 'model: {to}' in a study, or olivine optimize {to} --to DIR; see {to / FILE}")


def _check_target(to: Path, force: bool) -> None:
    if not to.name:
        raise UsageError(f"--to {to}: give the folder a name of its own")
    if not to.exists():
        return
    if not force:
        raise UsageError(f"{to} exists already; give another folder, or --force to replace it")
    if not to.is_dir() or (any(to.iterdir()) and not (to / FILE).is_file()):
        raise UsageError(f"{to} was not made by 'olivine finetune', so --force does not replace it")


def _claim(work: Path, about: dict[str, Any]) -> None:
    """Make the folder of checkpoints, or take the one that the same request has left.

    Raises:
        UsageError: when it belongs to another one.
    """
    about = json.loads(json.dumps(about))
    path = work / _REQUEST
    if path.is_file():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        if changed := [name for name in about if about[name] != earlier.get(name)]:
            raise UsageError(
                f"{work} holds an interrupted fine-tuning with another {', '.join(changed)}. Repeat its command to "
                "resume it, delete it, or give --to another folder."
            )
        return
    if work.exists() and any(work.iterdir()):
        raise UsageError(f"{work} is where checkpoints would go, and it holds something else: give --to another folder")
    make_folder(work)
    write_atomic(path, json.dumps(about, indent=1))


def _losses(tuned: Tuned, scored: Sequence[tuple[int, Sequence[int]]]) -> dict[str, dict[str, float]]:
    """Nats a token before and after, and their difference, with intervals over held-out texts."""
    texts = np.array([number for number, _ in scored])
    tokens = np.array([len(piece) - 1 for _, piece in scored], dtype=np.float64)
    before, after = np.array(tuned.before), np.array(tuned.after)

    def mean(values: Any) -> dict[str, float]:
        interval: Interval = clustered_mean(_by_text(values, texts), _by_text(tokens, texts))
        return {name: value for name, value in asdict(interval).items() if np.isfinite(value)}

    return {"before": mean(before), "after": mean(after), "difference": mean(after - before)}


def _by_text(values: Any, texts: Any) -> Any:
    sums = np.bincount(texts, weights=values)
    return sums[np.unique(texts)]


def _say_losses(losses: dict[str, dict[str, float]], out: Console) -> None:
    before, after, change = losses["before"], losses["after"], losses["difference"]
    span = f" ({change['low']:+.3f} to {change['high']:+.3f})" if "low" in change else ""
    verdict = "lower" if change.get("high", 0) < 0 else "higher" if change.get("low", 0) > 0 else "no difference found"
    say(
        out,
        f"held-out loss: {before['value']:.3f} before, {after['value']:.3f} after, difference {change['value']:+.3f}"
        f"{span} nats a token: {verdict}",
    )
    if verdict != "lower":
        say(out, "It learned nothing that holds on other texts: try fewer steps, a lower --learning-rate or more text")
