"""From logits to what quality is summed from: pure numpy, in row chunks, float32 in and float64 sums out.

A vocabulary of 200,000 and a window of 512 make logits of 400 MB; nothing here copies them whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]

CHUNK_ROWS = 32


@dataclass(frozen=True)
class TopK:
    """The base's next-token distribution, cut to its likeliest tokens.

    Attributes:
        ids: [positions, k] token ids, in no order.
        logp: [positions, k] their log-probabilities, in nats.
        nll: [positions] negative log-likelihood of the token that came, in nats.
        best: [positions] the likeliest token; the lowest id of several that are.
    """

    ids: Int32
    logp: Float32
    nll: Float32
    best: Int32


@dataclass(frozen=True)
class Scores:
    """Per scored position: negative log-likelihood and KL(base || candidate) in nats, top-1 agreement."""

    nll: Float64
    kl: Float64
    agree: npt.NDArray[np.bool_]


def log_normalizer(rows: Float32) -> Float64:
    """log(sum(exp(rows))) per row; the sum is kept in float64."""
    peak = rows.max(axis=1, keepdims=True)
    total = np.exp(rows - peak).sum(axis=1, dtype=np.float64)
    out: Float64 = np.log(total) + peak[:, 0].astype(np.float64)
    return out


def top_k(logits: Float32, targets: Int32, k: int) -> TopK:
    """Cut the distributions of ``logits`` [positions, vocabulary] to their ``k`` likeliest tokens.

    ``targets`` [positions] are the tokens that came next.
    """
    k = min(k, logits.shape[1])
    ids, logp, nll, best = [], [], [], []
    for start in range(0, len(logits), CHUNK_ROWS):
        rows = logits[start : start + CHUNK_ROWS]
        normalizer = log_normalizer(rows)
        likely = np.argpartition(rows, -k, axis=1)[:, -k:]
        ids.append(likely.astype(np.int32))
        logp.append((np.take_along_axis(rows, likely, axis=1) - normalizer[:, None]).astype(np.float32))
        nll.append((normalizer - _picked(rows, targets[start : start + CHUNK_ROWS])).astype(np.float32))
        best.append(rows.argmax(axis=1).astype(np.int32))
    return TopK(np.concatenate(ids), np.concatenate(logp), np.concatenate(nll), np.concatenate(best))


def score(logits: Float32, targets: Int32, base: TopK) -> Scores:
    """Compare ``logits`` [positions, vocabulary] with the base's distributions at the same positions.

    The KL divergence is that of the distributions with every token outside the base's top k put in one
    bucket: a lower bound of the full one (log-sum inequality), and equal to it where both spread the tail
    alike.
    """
    nll, kl, agree = [], [], []
    for start in range(0, len(logits), CHUNK_ROWS):
        stop = start + CHUNK_ROWS
        rows = logits[start:stop]
        normalizer = log_normalizer(rows)
        ids = base.ids[start:stop]
        ours = (np.take_along_axis(rows, ids, axis=1) - normalizer[:, None]).astype(np.float32)
        kl.append(bucketed_kl(base.logp[start:stop], ours, tail=ids.shape[1] < rows.shape[1]))
        nll.append(normalizer - _picked(rows, targets[start:stop]))
        agree.append(rows.argmax(axis=1) == base.best[start:stop])
    return Scores(np.concatenate(nll), np.concatenate(kl), np.concatenate(agree))


def bucketed_kl(base: Float32, ours: Float32, tail: bool) -> Float64:
    """KL(base || ours) per row from log-probabilities of the same tokens, the rest in one bucket.

    Args:
        base: [positions, k] the base's log-probabilities.
        ours: [positions, k] the candidate's, of the same tokens.
        tail: whether there are tokens outside the k.
    """
    p_log, q_log = base.astype(np.float64), ours.astype(np.float64)
    p = np.exp(p_log)
    total: Float64 = (p * (p_log - q_log)).sum(axis=1)
    if tail:
        # Float32 log-probabilities leave the tail uncertain by about 1e-7; both sides are floored alike.
        p_tail = np.maximum(1.0 - p.sum(axis=1), 1e-7)
        q_tail = np.maximum(1.0 - np.exp(q_log).sum(axis=1), 1e-7)
        total = total + p_tail * np.log(p_tail / q_tail)
    return total


def _picked(rows: Float32, targets: Int32) -> Float32:
    out: Float32 = np.take_along_axis(rows, targets[:, None].astype(np.int64), axis=1)[:, 0]
    return out
