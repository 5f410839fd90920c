"""Speedups of one model over another, from times taken in turns: the estimate and its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from olivine.evaluators.stats import LEVEL, Floats, Interval

#: Random swaps behind a randomisation interval, and steps in which its ends are found.
SWAPS = 400
BISECTIONS = 12
#: Standard deviations of the log ratio between processes of one model, beyond the noise within them, on a shared
#: machine with 2 cores (results/numbers.md): a process keeps it for its life, whatever its cause.
PREFILL_PROCESS_SD, DECODE_PROCESS_SD = 0.005, 0.0075
#: Standard deviation of a log speedup between measurements minutes apart, as a share of itself, on a shared host
#: (results/numbers.md).
NOISY_NEIGHBOUR_SHARE = 0.013


def prefill_speedup(base: Floats, candidate: Floats, processes: float) -> Interval:
    """Log speedup from [rounds] prefill times, taken in this many pairs of processes."""
    return with_process_error(paired_speedup(base, candidate), PREFILL_PROCESS_SD, processes)


def decode_speedup(base: Floats, candidate: Floats, processes: float) -> Interval:
    """Log speedup from [visits] decode times, taken in this many pairs of processes."""
    return with_process_error(paired_speedup(base, candidate), DECODE_PROCESS_SD, processes)


def e2e_speedup(base: Floats, candidate: Floats, processes: float) -> Interval:
    """Log speedup from [rounds] times of a prompt and its answer, taken in this many pairs of processes."""
    return with_process_error(paired_speedup(base, candidate), max(PREFILL_PROCESS_SD, DECODE_PROCESS_SD), processes)


def kish_effective_count(process: Sequence[int]) -> float:
    """Number of processes with equally many rounds that would average as well as those of [rounds] do.

    Source: Kish (1965), Survey Sampling, section 11.7: (sum of n)^2 / sum of n^2.
    """
    counts = np.bincount(process)
    return float(counts.sum() ** 2 / np.square(counts).sum())


def with_process_error(interval: Interval, between_process_sd: float, processes: float) -> Interval:
    """Widen the interval of a log speedup by the difference between processes, which lasts for their lives."""
    return widened(interval, between_process_sd / math.sqrt(processes))


def with_noisy_neighbours(interval: Interval) -> Interval:
    """Widen the interval of a log speedup by the effect that other guests of the host have on models that are unlike.

    A model that shares caches and memory with others loses time to them, and two models lose the more differently, the
    more they differ in speed; a model and its copy lose the same. It lasts for minutes, so no further round shows it.
    """
    return widened(interval, noisy_neighbour_sd(interval.value))


def noisy_neighbour_sd(log_speedup: float) -> float:
    """Standard deviation of the effect of noisy neighbours on a log speedup of this size."""
    return NOISY_NEIGHBOUR_SHARE * abs(log_speedup)


def widened(interval: Interval, deviation: float) -> Interval:
    """Widen an interval by an independent error of this standard deviation: each side adds it in quadrature."""
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * deviation
    down, up = interval.value - interval.low, interval.high - interval.value
    return Interval(interval.value, interval.value - math.hypot(down, half), interval.value + math.hypot(up, half))


def narrowed(interval: Interval, deviation: float) -> Interval:
    """Undo :func:`widened` by this standard deviation."""
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * deviation
    down, up = (
        math.sqrt(max(0.0, side**2 - half**2))
        for side in (interval.value - interval.low, interval.high - interval.value)
    )
    return Interval(interval.value, interval.value - down, interval.value + up)


def paired_speedup(base: Floats, candidate: Floats, level: float = LEVEL, seed: int = 0) -> Interval:
    """Log speedup of the candidate, from times taken side by side, with a randomisation interval.

    The statistic is the difference of the models' :func:`lower_half_mean` of log times. Other programs only
    ever add time, so the faster half of the rounds tells more than their middle. The interval holds every
    shift d for which base and candidate + d can't be told apart when the two are swapped at random within
    rounds: exact for any number of rounds and any noise, as the order within a round is drawn at random and
    noise multiplies both alike. Fewer than six rounds can't give 95 %: the interval is then unbounded.

    Args:
        base: [rounds] times of the base.
        candidate: [rounds] times of the candidate in the same rounds.
        level: coverage asked for.
        seed: of the swaps.

    Source: Fisher's randomisation test, inverted as in Garthwaite (1996), Biometrics 52(4); for one-sided
    noise Chen and Revels (2016), arXiv 1608.04295.
    """
    ours, theirs = np.log(candidate), np.log(base)
    value = float(lower_half_mean(theirs) - lower_half_mean(ours))
    tail = (1 - level) / 2
    if 0.5 ** len(base) > tail:
        return Interval(value, -math.inf, math.inf)
    swaps = np.random.default_rng(seed).integers(0, 2, (SWAPS, len(base))).astype(bool)
    swaps[0] = False  # what was seen is one of the outcomes

    def extreme(shift: float, sign: int) -> float:
        """Share of swaps whose difference is at least the measured one, with the candidate ``shift`` slower."""
        moved = ours + shift
        difference = lower_half_mean(np.where(swaps, moved, theirs)) - lower_half_mean(np.where(swaps, theirs, moved))
        return float((sign * (difference - difference[0]) >= -1e-12).mean())

    reach = float(np.ptp(theirs - ours)) + 1e-9
    ends = []
    for sign in (1, -1):
        outside, inside = value - sign * reach, value
        for _ in range(BISECTIONS):
            middle = (outside + inside) / 2
            if extreme(middle, sign) > tail:
                inside = middle
            else:
                outside = middle
        ends.append(outside)
    return Interval(value, ends[0], ends[1])


def lower_half_mean(samples: Floats) -> Floats:
    """Mean of the smaller half of ``samples`` along the last axis, the middle one included."""
    half = (samples.shape[-1] + 1) // 2
    mean: Floats = np.partition(samples, half - 1, axis=-1)[..., :half].mean(axis=-1)
    return mean


def divided(amount: float, interval: Interval) -> Interval:
    """The amount over a quantity with an interval: the base's time over a speedup, or tokens over a time."""
    return Interval(amount / interval.value, amount / interval.high, amount / interval.low)
