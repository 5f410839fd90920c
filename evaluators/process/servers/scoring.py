"""Scores of logits: pure numpy, in row chunks on all cores, float32 in and float64 sums out.

A vocabulary of 200,000 and a window of 512 make logits of 400 MB; nothing here copies them whole. A chunk stays in a
core's cache while everything is computed from it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]

#: Logits worked on at a time by a core: a megabyte.
CHUNK_LOGITS = 262144
#: A tail below this is rounding: it counts as this much on both sides.
LEAST_TAIL = 1e-12


@dataclass(frozen=True)
class TopK:
    """The base's next-token distribution, cut to its likeliest tokens.

    Attributes:
        ids: [positions, k] token ids, in no order.
        logp: [positions, k] their log-probabilities, in nats.
        tail: [positions] probability of all the others.
        nll: [positions] negative log-likelihood of the token that came, in nats.
        best: [positions] the likeliest token; the lowest id of several that are.
    """

    ids: Int32
    logp: Float32
    tail: Float64
    nll: Float32
    best: Int32


def stored_window(number: int, tokens: Int32, base: TopK) -> dict[str, npt.NDArray[Any]]:
    """Name the arrays that a file of the base's predictions holds of one window, of the token ids ``tokens``."""
    parts = {name: getattr(base, name) for name in ("ids", "logp", "tail", "nll", "best")}
    return {f"{name}_{number}": part for name, part in ({"tokens": tokens} | parts).items()}


@dataclass(frozen=True)
class Scores:
    """Per scored position: negative log-likelihood and KL(base || candidate) in nats, top-1 agreement.

    Where ``finite`` is false a logit was not, and the others mean nothing.
    """

    nll: Float64
    kl: Float64
    agree: npt.NDArray[np.bool_]
    finite: npt.NDArray[np.bool_]


def top_k(logits: Float32, targets: Int32, k: int) -> TopK:
    """Cut the distributions of ``logits`` [positions, vocabulary] to their ``k`` likeliest tokens.

    ``targets`` [positions] are the tokens that came next.
    """
    k = min(k, logits.shape[1])

    def cut(chunk: slice) -> tuple[Int32, Float32, Float64, Float32, Int32]:
        rows = logits[chunk]
        likely = np.argpartition(rows, -k, axis=1)[:, -k:].astype(np.int32)
        best = rows.argmax(axis=1)
        logp, rest, normalizer = _split(rows, likely, best)
        nll = (normalizer - _picked(rows, targets[chunk])).astype(np.float32)
        return likely, logp.astype(np.float32), rest, nll, best.astype(np.int32)

    return TopK(*(np.concatenate(part) for part in zip(*_in_chunks(cut, logits), strict=True)))


def score(logits: Float32, targets: Int32, base: TopK) -> Scores:
    """Compare ``logits`` [positions, vocabulary] with the base's distributions at the same positions.

    The KL divergence is that of the distributions with every token outside the base's top k put in one
    bucket: a lower bound of the full one (log-sum inequality), and equal to it where both spread the tail
    alike.
    """

    def compare(chunk: slice) -> tuple[Float64, Float64, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        rows = logits[chunk]
        finite = np.isfinite(rows.sum(axis=1))
        best = rows.argmax(axis=1)
        with np.errstate(invalid="ignore", over="ignore"):  # ``finite`` tells of them
            logp, rest, normalizer = _split(rows, base.ids[chunk], best)
            kl = bucketed_kl(base.logp[chunk], base.tail[chunk], logp, rest)
            return normalizer - _picked(rows, targets[chunk]), kl, best == base.best[chunk], finite

    return Scores(*(np.concatenate(part) for part in zip(*_in_chunks(compare, logits), strict=True)))


def finite(logits: Float32) -> bool:
    """Tell whether all logits are finite; a sum shows it without an array of flags."""
    return bool(np.isfinite(logits.sum(axis=1, dtype=np.float64)).all())


def likelihood(logits: Float32, targets: Int32) -> tuple[float, bool]:
    """Log-likelihood in nats of the tokens ``targets`` [positions] under ``logits`` [positions, vocabulary].

    And whether each of them is the likeliest token of its position.

    Raises:
        FloatingPointError: when a logit is not finite.
    """

    def score_chunk(chunk: slice) -> tuple[Float64, npt.NDArray[np.bool_]]:
        rows = logits[chunk]
        if not np.isfinite(rows.sum(axis=1, dtype=np.float64)).all():
            raise FloatingPointError("the model gives logits that are not finite")
        best = rows.argmax(axis=1)
        logp, _, _ = _split(rows, targets[chunk, None], best)
        return logp[:, 0], best == targets[chunk]

    logp, greedy = (np.concatenate(part) for part in zip(*_in_chunks(score_chunk, logits), strict=True))
    return float(logp.sum()), bool(greedy.all())


_Part = TypeVar("_Part")


def _in_chunks(work: Callable[[slice], _Part], logits: Float32) -> Sequence[_Part]:
    """Results of ``work`` for each chunk of rows, in order."""
    rows = max(1, CHUNK_LOGITS // logits.shape[1])
    return list(_cores().map(work, [slice(start, start + rows) for start in range(0, len(logits), rows)]))


@cache
def _cores() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(len(os.sched_getaffinity(0)))


def bucketed_kl(base: Float32, base_tail: Float64, ours: Float64, our_tail: Float64) -> Float64:
    """KL(base || ours) per row from log-probabilities of the same tokens, the rest in one bucket.

    Args:
        base: [positions, k] the base's log-probabilities.
        base_tail: [positions] its probability of all other tokens.
        ours: [positions, k] the candidate's log-probabilities of the same tokens.
        our_tail: [positions] its probability of all others.
    """
    p_log = base.astype(np.float64)
    total: Float64 = (np.exp(p_log) * (p_log - ours)).sum(axis=1)
    p, q = np.maximum(base_tail, LEAST_TAIL), np.maximum(our_tail, LEAST_TAIL)
    total += p * np.log(p / q)
    return total


def _split(rows: Float32, ids: Int32, best: npt.NDArray[np.intp]) -> tuple[Float64, Float64, Float64]:
    """Log-probabilities of the tokens ``ids``, the probability of all others, and log(sum(exp(rows))).

    The others are summed by themselves, so their probability keeps its digits when it is small. ``best`` is the
    likeliest token of each row.
    """
    peak = np.take_along_axis(rows, best[:, None], axis=1)
    weights = np.subtract(rows, peak)
    np.exp(weights, out=weights)
    inside = np.take_along_axis(weights, ids, axis=1).sum(axis=1, dtype=np.float64)
    np.put_along_axis(weights, ids, np.float32(0), axis=1)
    outside = weights.sum(axis=1).astype(np.float64)
    total = inside + outside
    normalizer = np.log(total) + peak[:, 0].astype(np.float64)
    logp = np.take_along_axis(rows, ids, axis=1) - normalizer[:, None]
    return logp, outside / total, normalizer


def _picked(rows: Float32, targets: Int32) -> Float32:
    out: Float32 = np.take_along_axis(rows, targets[:, None].astype(np.int64), axis=1)[:, 0]
    return out
