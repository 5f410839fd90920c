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


@dataclass(frozen=True)
class Scores:
    """Per scored position: negative log-likelihood and KL(base || candidate) in nats, top-1 agreement."""

    nll: Float64
    kl: Float64
    agree: npt.NDArray[np.bool_]


def top_k(logits: Float32, targets: Int32, k: int) -> TopK:
    """Cut the distributions of ``logits`` [positions, vocabulary] to their ``k`` likeliest tokens.

    ``targets`` [positions] are the tokens that came next.
    """
    k = min(k, logits.shape[1])
    ids, logp, tail, nll, best = [], [], [], [], []
    for start in range(0, len(logits), CHUNK_ROWS):
        rows = logits[start : start + CHUNK_ROWS]
        likely = np.argpartition(rows, -k, axis=1)[:, -k:].astype(np.int32)
        kept, rest, normalizer = _split(rows, likely)
        ids.append(likely)
        logp.append(kept.astype(np.float32))
        tail.append(rest)
        nll.append((normalizer - _picked(rows, targets[start : start + CHUNK_ROWS])).astype(np.float32))
        best.append(rows.argmax(axis=1).astype(np.int32))
    return TopK(*(np.concatenate(part) for part in (ids, logp, tail, nll, best)))


def score(logits: Float32, targets: Int32, base: TopK) -> Scores:
    """Compare ``logits`` [positions, vocabulary] with the base's distributions at the same positions.

    The KL divergence is that of the distributions with every token outside the base's top k put in one
    bucket: a lower bound of the full one (log-sum inequality), and equal to it where both spread the tail
    alike.
    """
    nll, kl, agree = [], [], []
    for start in range(0, len(logits), CHUNK_ROWS):
        chunk = slice(start, start + CHUNK_ROWS)
        rows = logits[chunk]
        kept, rest, normalizer = _split(rows, base.ids[chunk])
        kl.append(bucketed_kl(base.logp[chunk], base.tail[chunk], kept, rest))
        nll.append(normalizer - _picked(rows, targets[chunk]))
        agree.append(rows.argmax(axis=1) == base.best[chunk])
    return Scores(np.concatenate(nll), np.concatenate(kl), np.concatenate(agree))


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


def _split(rows: Float32, ids: Int32) -> tuple[Float64, Float64, Float64]:
    """Log-probabilities of the tokens ``ids``, the probability of all others, and log(sum(exp(rows))).

    The tail is a difference of float64 sums over the same exponentials, so it keeps its digits when it is small.
    """
    peak = rows.max(axis=1, keepdims=True)
    weights = np.exp(rows - peak)
    total = weights.sum(axis=1, dtype=np.float64)
    inside = np.take_along_axis(weights, ids, axis=1).sum(axis=1, dtype=np.float64)
    normalizer = np.log(total) + peak[:, 0].astype(np.float64)
    kept = np.take_along_axis(rows, ids, axis=1) - normalizer[:, None]
    return kept, np.maximum(total - inside, 0.0) / total, normalizer


def _picked(rows: Float32, targets: Int32) -> Float32:
    out: Float32 = np.take_along_axis(rows, targets[:, None].astype(np.int64), axis=1)[:, 0]
    return out
