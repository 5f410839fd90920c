"""GoalSelector: picks the proposal that should be the best one within the limits of a study's goal.

The corrected cost model of ``surrogate.py`` gives every proposal a normal distribution of each metric on a logarithmic
scale: the uncertainty of the correction, and the error that is the candidate's own. The next proposal has the largest
expected improvement of the goal's metric over the best candidate that keeps the limits (Jones, Schonlau and Welch 1998,
Efficient global optimization of expensive black-box functions), times the chance that it keeps them (Schonlau, Welch
and Jones 1998, Global versus local search in constrained optimization of computer models). The chance counts twice,
since a candidate is scored twice: in the search, and again in confirmation on other text.

A perplexity ratio is too noisy to learn from, since half of its change is luck of the text. So it is forecast by the
divergence, which the same windows tell much better: a ratio is 1 + slope * divergence, with a slope near 1.

Every fourth proposal is the front's: it looks where the forecast of the loss may be wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from olivine.evaluators.metric import METRICS
from olivine.passes.base import Scalar
from olivine.search.config.constraints import Constraint
from olivine.search.pareto import Floats
from olivine.search.records import TrialRecord
from olivine.search.samplers.goal import Goal
from olivine.search.samplers.surrogate import NOISE_COUNT, SurrogateSelector, logs

#: Times that a candidate has to keep the limits: in the search, and in confirmation on other text.
TIMES_SCORED = 2
#: The front has one proposal of so many.
FRONT_EVERY = 4
#: Candidates within the limits whose neighbours are proposed.
LEADERS = 3
#: Share of the metric's values that no candidate within the limits has yet, and that counts as improvement.
USUAL = 0.75
RATIO, DIVERGENCE = "perplexity_ratio", "kl_divergence"
#: Noise of a divergence around the corrected prediction before there are residuals.
DIVERGENCE_NOISE = 0.1
#: Change of a perplexity ratio by divergence: its usual value, its standard deviation, and the noise of a ratio by the
#: root of the divergence.
SLOPE, SLOPE_SD, RATIO_NOISE = 1.0, 0.3, 0.05
#: Metrics whose logarithm is that of their distance to a best value (:func:`logs`): less of it is better.
_DISTANCES = ("perplexity_ratio", "top1_agreement")

_erf = np.vectorize(math.erf, otypes=[np.float64])


@dataclass(frozen=True)
class Forecast:
    """Normal distributions of a metric on the scale of :func:`logs`, [proposals] means and standard deviations."""

    mean: Floats
    sd: Floats


@dataclass(frozen=True)
class GoalSelector:
    """Picks proposals.

    Attributes:
        surrogate: predicts, and picks for the front.
        goal: of the study.
    """

    surrogate: SurrogateSelector
    goal: Goal

    def best(self, pool: Sequence[Mapping[str, Scalar]], records: Sequence[TrialRecord], seed: int) -> int | None:
        """Find the proposal in ``pool`` that should improve most on the best candidate within the limits.

        Args:
            pool: canonical choices.
            records: of the ended candidates, without the base.
            seed: of the draw for the front.

        Returns:
            Its index; None where none has a chance.
        """
        if len(records) % FRONT_EVERY == FRONT_EVERY - 1:
            return self.surrogate.best(pool, records, seed)
        metric, sign = self.goal.metric, _sign(self.goal.metric)
        found = self.forecast(metric, pool, records)
        keeping = self._keeping(records)
        values = sign * found.mean
        best = float(min(sign * logs(metric, [r.value(metric) for r in keeping]))) if keeping else _usual(values)
        gains = expected_improvement(best, values, found.sd) * self.keep_probability(pool, records) ** TIMES_SCORED
        index = int(np.argmax(gains))
        return index if gains[index] > 0 else None

    def neighbourhoods(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """The candidates whose neighbours are proposed: the front, and once more the best within the limits."""
        metric = self.goal.metric
        ranked = sorted(self._keeping(records), key=lambda r: float(_sign(metric) * logs(metric, [r.value(metric)])[0]))
        return [*self.surrogate.neighbourhoods(records), *ranked[:LEADERS]]

    def keep_probability(self, pool: Sequence[Mapping[str, Scalar]], records: Sequence[TrialRecord]) -> Floats:
        """[pool] chance that a proposal keeps all limits, which are taken as independent."""
        chance: Floats = np.ones(len(pool))
        for limit in self.goal.limits:
            found = self.forecast(limit.metric, pool, records)
            chance = chance * _chance(limit, found)
        return chance

    def forecast(self, metric: str, pool: Sequence[Mapping[str, Scalar]], records: Sequence[TrialRecord]) -> Forecast:
        """Forecast a metric of each proposal."""
        if metric != RATIO:
            return Forecast(*self.surrogate.corrected(metric, pool, records))
        loss = Forecast(*self.surrogate.corrected(DIVERGENCE, pool, records, DIVERGENCE_NOISE))
        scored = [r for r in records if RATIO in r.metrics and DIVERGENCE in r.metrics]
        slope, slope_sd, noise = ratio_slope(
            np.array([r.value(DIVERGENCE) for r in scored]), np.array([r.value(RATIO) for r in scored])
        )
        own = noise * np.exp(-loss.mean / 2)
        return Forecast(loss.mean + math.log(slope), np.sqrt(loss.sd**2 + (slope_sd / slope) ** 2 + own**2))

    def _keeping(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """The candidates that keep all limits, as they were measured."""
        return [
            r
            for r in records
            if r.feasible
            and self.goal.metric in r.metrics
            and all(limit.metric in r.metrics and limit.holds(r.value(limit.metric)) for limit in self.goal.limits)
        ]


def expected_improvement(best: float, mean: Floats, sd: Floats) -> Floats:
    """Expectation of max(0, best - x) for normal x (Jones, Schonlau and Welch 1998, eq. 15).

    Args:
        best: value to fall below.
        mean: [n] means.
        sd: [n] standard deviations, above 0.
    """
    z = (best - mean) / sd
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    gain: Floats = np.maximum((best - mean) * normal_cdf(z) + sd * density, 0.0)
    return gain


def normal_cdf(z: Floats) -> Floats:
    """Standard normal distribution function."""
    share: Floats = 0.5 * (1 + _erf(z / math.sqrt(2)))
    return share


def ratio_slope(divergences: Floats, ratios: Floats) -> tuple[float, float, float]:
    """Fit ratio - 1 = slope * divergence, with noise that grows with the root of the divergence.

    Args:
        divergences: [trials] of candidates to the base.
        ratios: [trials] of their perplexities to the base's.

    Returns:
        The slope, its standard deviation, and the noise of a ratio at a divergence of 1.
    """
    divergences = np.maximum(divergences, 1e-9)
    variance, slope, weight = RATIO_NOISE**2, SLOPE, 1 / SLOPE_SD**2
    for _ in range(3):  # the noise from the residuals, the slope from the noise
        left = (ratios - 1 - slope * divergences) ** 2 / divergences
        variance = (NOISE_COUNT * RATIO_NOISE**2 + float(left.sum())) / (NOISE_COUNT + len(ratios))
        weight = 1 / SLOPE_SD**2 + float(divergences.sum()) / variance
        slope = (SLOPE / SLOPE_SD**2 + float((ratios - 1).sum()) / variance) / weight
    return max(slope, 0.05), 1 / math.sqrt(weight), math.sqrt(variance)


def _chance(limit: Constraint, found: Forecast) -> Floats:
    """[pool] chance that a limit is kept."""
    below = normal_cdf((logs(limit.metric, [limit.bound])[0] - found.mean) / found.sd)
    return below if (limit.relation == "<=") != (limit.metric == "top1_agreement") else 1 - below


def _sign(metric: str) -> float:
    """1 where a smaller logarithm of a metric is better, else -1."""
    return 1.0 if METRICS[metric].direction == "minimize" or metric in _DISTANCES else -1.0


def _usual(values: Floats) -> float:
    return float(np.quantile(values, USUAL))
