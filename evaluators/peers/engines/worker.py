"""The loop of every engine's process: a request a line on standard input, its answer a line on standard output.

``{"score": tokens, "reference": file, "window": n}`` scores a window of text against the log-probabilities of the float
model; ``{"generate": prompt, "new_tokens": n}`` times a prompt and the tokens after it. It needs numpy and the engine.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
#: Positions that are compared at a time, lest a large vocabulary takes much memory.
CHUNK = 128
#: Seconds between prefill and decode that nothing is timed in: long bursts of real-time programs are interrupted.
PAUSE_S = 0.25


class Engine(Protocol):
    """A loaded model."""

    def logits(self, tokens: list[int]) -> Floats:
        """[tokens, vocabulary] logits of every position."""

    def generate(self, prompt: list[int], new_tokens: int) -> tuple[float, float]:
        """Seconds from the prompt to the first new token, and from there to the last one."""


def serve(engine: Engine) -> None:
    """Answer requests until standard input ends; what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(answer(engine, json.loads(line))), file=answers, flush=True)


def answer(engine: Engine, request: dict[str, Any]) -> Any:
    """The answer to one request."""
    if "score" in request:
        reference = np.load(request["reference"], mmap_mode="r")[request["window"]]
        return compare(reference, engine.logits(request["score"]), request["score"])
    return engine.generate(request["generate"], request["new_tokens"])


def compare(reference: Floats, logits: Floats, tokens: list[int]) -> dict[str, float]:
    """Compare predictions of one window with the float model's, at all positions that have a next token.

    Args:
        reference: [tokens, vocabulary] log-probabilities of the float model.
        logits: [tokens, vocabulary or wider] of the engine; what it pads the vocabulary with is left out.
        tokens: [tokens] ids.

    Returns:
        Sums over positions: ``kl`` of KL(float || engine) and ``nll`` of the negative log-likelihood, in nats;
        ``base_nll`` of the float model; ``positions``.
    """
    sums = dict.fromkeys(("kl", "nll", "base_nll"), 0.0)
    positions = len(tokens) - 1
    for start in range(0, positions, CHUNK):
        rows = slice(start, min(start + CHUNK, positions))
        base = np.asarray(reference[rows])
        found = log_softmax(logits[rows, : base.shape[1]])
        following = np.asarray(tokens[rows.start + 1 : rows.stop + 1])[:, None]
        sums["kl"] += float((np.exp(base) * (base - found)).sum(dtype=np.float64))
        sums["nll"] -= float(np.take_along_axis(found, following, 1).sum(dtype=np.float64))
        sums["base_nll"] -= float(np.take_along_axis(base, following, 1).sum(dtype=np.float64))
    return {**sums, "positions": positions}


def log_softmax(logits: Floats) -> Floats:
    """Log-probabilities along the last axis; sums of many terms are in float64."""
    shifted = logits - logits.max(-1, keepdims=True)
    total = np.exp(shifted).sum(-1, keepdims=True, dtype=np.float64)
    return np.asarray(shifted - np.log(total).astype(np.float32))
