"""Quality of every row: KL divergence and perplexity against the float checkpoint, at all positions of windows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from olivine.evaluators.peers.process import running
from olivine.evaluators.peers.rows import BUILDER, OLIVINE, Row
from olivine.evaluators.quality import formulas
from olivine.evaluators.stats import Interval
from olivine.passes.store.digests import digest
from olivine.passes.transforms.prune_head import unpruned

Windows = dict[str, list[list[int]]]


def reference(checkpoint: Path, kind: str, windows: list[list[int]], work: Path) -> Path:
    """A file with the float model's log-probabilities [windows, tokens, vocabulary], by transformers in float32."""
    import torch
    import transformers

    name = "".join(c if c.isalnum() else "-" for c in kind)
    path = work / f"reference-{name}-{digest(windows)[:16]}.npy"
    if path.exists():
        return path
    torch.set_num_threads(1)
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    aside = path.with_name(f"new-{path.name}")
    shape = (len(windows), len(windows[0]), model.config.vocab_size)
    kept = np.lib.format.open_memmap(aside, "w+", np.float32, shape)
    with torch.no_grad():
        for place, tokens in enumerate(windows):
            kept[place] = torch.log_softmax(model(torch.tensor([tokens])).logits[0], -1).numpy()
    kept.flush()
    aside.rename(path)
    return path


def score(row: Row, windows: Windows, references: dict[str, Path]) -> dict[str, list[dict[str, Any]]]:
    """Sums over the positions of each window (``engines/worker.py``), for each kind of text."""
    with _all_positions(row) as scored, running(scored.launch) as engine:
        return {
            kind: [
                engine.ask({"score": tokens, "reference": str(references[kind]), "window": place})
                for place, tokens in enumerate(listed)
            ]
            for kind, listed in windows.items()
        }


@contextlib.contextmanager
def _all_positions(row: Row) -> Iterator[Row]:
    """The row as one that gives the logits of every position: a pruned head's twin over the same weights.

    It has one thread, which gives the same logits and bears a busy machine.
    """
    one = {**row.launch.settings, "threads": 1}
    if row.engine not in (OLIVINE, BUILDER):
        yield replace(row, launch=replace(row.launch, settings=one))
        return
    with unpruned(row.path) as folder:
        yield replace(row, launch=replace(row.launch, settings={**one, "path": str(folder)}))


def divergence(sums: list[dict[str, Any]]) -> Interval:
    """KL divergence in nats a token, with its interval over windows."""
    return formulas.kl_divergence(_column(sums, "kl"), _column(sums, "positions"))


def ratio(sums: list[dict[str, Any]]) -> Interval:
    """Perplexity over the float model's, with its interval over windows."""
    return formulas.perplexity_ratio(_column(sums, "nll"), _column(sums, "base_nll"), _column(sums, "positions"))


def _column(sums: list[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([window[name] for window in sums], float)
