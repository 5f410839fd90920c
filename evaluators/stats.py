"""The statistics behind every interval: pure functions of samples, each with its source."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

Floats = npt.NDArray[np.float64]
_Sample = TypeVar("_Sample")

LEVEL = 0.95
#: Prior precision of the anytime-valid t interval, chosen so that three windows can end an evaluation.
PRIOR_PRECISION = 0.05


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its interval."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of the interval's length."""
        return (self.high - self.low) / 2

    def exp(self) -> Interval:
        """From the interval of a logarithm to that of the quantity."""
        ends = (self.value, self.low, self.high)
        return Interval(*(x if x == math.inf else math.exp(min(x, 700.0)) for x in ends))

    def clip(self, low: float, high: float) -> Interval:
        """The same interval within the values that can be."""
        return Interval(*(min(max(x, low), high) for x in (self.value, self.low, self.high)))


def hodges_lehmann(samples: Floats, level: float = LEVEL) -> Interval:
    """Centre of symmetry of ``samples`` and its exact interval, by inverting Wilcoxon's signed-rank test.

    The median of the pairwise means: 95 % as efficient as the mean on normal noise, and, unlike it,
    indifferent to a few wild samples. The interval needs symmetry only, which the random order within a pair
    provides. Fewer than six samples cannot give 95 %: the interval is then unbounded.

    Source: Hodges and Lehmann (1963), Ann. Math. Stat. 34(2); Hollander, Wolfe and Chicken, Nonparametric
    Statistical Methods, section 3.3.
    """
    n = len(samples)
    if n == 0:
        return Interval(math.nan, -math.inf, math.inf)
    upper = np.triu_indices(n)
    walsh = np.sort((samples[upper[0]] + samples[upper[1]]) / 2)
    value = float(np.median(walsh))
    rank = _signed_rank_critical(n, (1 - level) / 2)
    if rank == 0:
        return Interval(value, -math.inf, math.inf)
    return Interval(value, float(walsh[rank - 1]), float(walsh[len(walsh) - rank]))


def _signed_rank_critical(n: int, tail: float) -> int:
    """The largest c such that P(T < c) <= ``tail`` for Wilcoxon's T of ``n`` pairs; 0 where there is none."""
    if n > 50:
        mean, sd = n * (n + 1) / 4, math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        return max(0, math.floor(mean + NormalDist().inv_cdf(tail) * sd + 0.5))
    counts = np.zeros(n * (n + 1) // 2 + 1)
    counts[0] = 1.0
    for rank in range(1, n + 1):
        counts[rank:] = counts[rank:] + counts[:-rank]
        counts /= 2.0
    return int(np.searchsorted(np.cumsum(counts), tail, side="right"))


def student(samples: Floats, level: float = LEVEL) -> Interval:
    """Mean of independent samples and Student's interval; unbounded for a single sample."""
    n = len(samples)
    value = float(np.mean(samples))
    if n < 2:
        return Interval(value, -math.inf, math.inf)
    return _student_interval(value, float(np.std(samples, ddof=1)) / math.sqrt(n), n - 1, level)


def _student_interval(value: float, error: float, degrees: int, level: float) -> Interval:
    """Interval from a standard error that is known with so many degrees of freedom."""
    half = float(stdtrit(degrees, (1 + level) / 2)) * error
    return Interval(value, value - half, value + half)


def proportion(hits: int, count: int, level: float = LEVEL) -> Interval:
    """Share of hits with Wilson's score interval, which has a width also where all or none are hits.

    Source: Wilson (1927), J. Am. Stat. Assoc. 22(158); Brown, Cai and DasGupta (2001), Stat. Sci. 16(2).
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, weight = hits / count, z * z / count
    centre = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / count + weight / (4 * count)) / (1 + weight)
    return Interval(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)))


def jackknife(
    samples: Sequence[_Sample], statistic: Callable[[Sequence[_Sample]], float], groups: int = 50, level: float = LEVEL
) -> Interval:
    """``statistic`` of independent samples with an interval, whatever smooth function of them it is.

    The delete-a-group jackknife: its values without each of up to ``groups`` parts of the samples, every n-th of them a
    part. Of a mean, with a group per sample, it is Student's interval. Unbounded for a single sample.

    Source: Kott (2001), The Delete-a-Group Jackknife, Journal of Official Statistics 17(4).
    """
    value = float(statistic(samples))
    parts = min(groups, len(samples))
    if parts < 2:
        return Interval(value, -math.inf, math.inf)
    without = [
        float(statistic([each for index, each in enumerate(samples) if index % parts != part])) for part in range(parts)
    ]
    spread = np.array(without) - np.mean(without)
    error = math.sqrt((parts - 1) / parts * float((spread**2).sum()))
    return _student_interval(value, error, parts - 1, level)


def clustered_mean(sums: Floats, counts: Floats, level: float = LEVEL) -> Interval:
    """sum(sums) / sum(counts), with errors that are shared within a window.

    Tokens of one window err together, so the window is the sample. The variance is that of the linearised
    ratio, with the spread of each window's residual.

    Args:
        sums: [windows] sum of a per-token quantity.
        counts: [windows] its number of tokens.
        level: coverage asked for.

    Source: Cochran, Sampling Techniques, section 2.11 (ratio estimator) and 9A (clusters).
    """
    n = len(sums)
    value = float(sums.sum() / counts.sum())
    if n < 2:
        return Interval(value, -math.inf, math.inf)
    residuals = (sums - value * counts) / counts.mean()
    error = math.sqrt(float((residuals**2).sum()) / (n - 1) / n)
    return _student_interval(value, error, n - 1, level)


def anytime_mean(samples: Floats, level: float = LEVEL, precision: float = PRIOR_PRECISION) -> Interval:
    """Mean with an interval that holds at all sample sizes at once, so that one may look after every window.

    Inverts the t-test of a point mean against a normal mixture of effect sizes, with the right Haar prior on
    the unknown spread: the Bayes factor is a nonnegative martingale under the null, so by Ville's inequality
    the chance that it ever exceeds 1 / (1 - level) is at most 1 - level. Exact for normal samples. Unbounded
    while there are too few samples to tell anything.

    Args:
        samples: [n] in the order seen.
        level: chance that the interval covers the mean at every n.
        precision: of the normal prior on effect size; small values favour early verdicts on large effects.

    Source: Lai (1976), Ann. Stat. 4(2); Wang and Ramdas, arXiv 2310.03722, section 4; Howard et al., arXiv
    1810.08240, for confidence sequences in general.
    """
    n = len(samples)
    value = float(np.mean(samples)) if n else math.nan
    if n < 2:
        return Interval(value, -math.inf, math.inf)
    # ((1 + t²/ν) / (1 + t²/(ν c))) ** (n/2) / sqrt(c) < 1/alpha with c = 1 + n/precision, solved for t².
    spread = 1 + n / precision
    most = (math.sqrt(spread) / (1 - level)) ** (2 / n)
    if most >= spread:
        return Interval(value, -math.inf, math.inf)
    t_squared = (n - 1) * (most - 1) / (1 - most / spread)
    half = math.sqrt(t_squared / n) * float(np.std(samples, ddof=1))
    return Interval(value, value - half, value + half)


def pooled(intervals: Sequence[Interval]) -> Interval:
    """Combine independent measurements of one quantity: means weighted by precision.

    Intervals without an end say nothing beside others that have one.

    Source: Cochran (1954), The combination of estimates from different experiments, Biometrics 10(1).
    """
    known = [interval for interval in intervals if math.isfinite(interval.half_width)]
    if not known:
        return intervals[0]
    exact = [interval for interval in known if interval.half_width == 0]
    if exact:
        return exact[0]
    precision = [1 / interval.half_width**2 for interval in known]
    value = sum(p * interval.value for p, interval in zip(precision, known, strict=True)) / sum(precision)
    half = 1 / math.sqrt(sum(precision))
    return Interval(value, value - half, value + half)


def probability_less(a: Interval, b: Interval) -> float:
    """Probability that the quantity behind ``a`` is less than the one behind ``b``, errors taken as normal.

    The standard errors are read back from the 95 % intervals.
    """
    per_width = 1 / NormalDist().inv_cdf((1 + LEVEL) / 2)
    error = math.hypot(a.half_width, b.half_width) * per_width
    difference = b.value - a.value
    if error == 0:
        return 0.5 if difference == 0 else float(difference > 0)
    return NormalDist().cdf(difference / error)
