"""SurrogateSelector: picks the proposal that should add most to the front.

A cost model predicts each metric of a proposal. The study's own trials correct it: a small Bayesian linear regression
(Bishop 2006, section 3.3) predicts the error of the cost model on a logarithmic scale, from a constant, from the
prediction itself, and from the value of each axis. The width of its prior is the one with the largest evidence. One
draw from the posterior gives the metrics of all proposals (Thompson sampling); the proposal with the largest gain in
hypervolume in that draw is next. Noise is not drawn: of hundreds of proposals the luckiest would be taken, and luck is
no gain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from olivine.evaluators.metric import directed
from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.recipe import Recipe
from olivine.search.config.constraints import Constraint
from olivine.search.pareto import Floats, front, hypervolume, nondominated
from olivine.search.records import TrialRecord

#: Prior standard deviations: of a constant offset, of the slope (log scale).
OFFSET, SLOPE = 0.5, 0.3
#: And of what one value of an axis adds: of these the one that explains the trials best, the first without any.
AXIS = (0.05, 0.2, 0.8)
#: Noise of a measured value around the corrected prediction before there are residuals, and how many it counts for.
NOISE, NOISE_COUNT = 0.05, 4
#: Trials from which on each candidate's own error is drawn too: by then the predictions and the axes are learned, and
#: the candidates that the front still lacks are better than their like.
LATE = 50
#: Trials before the reference point is taken from measured values rather than from predictions.
ENOUGH = 5


class MetricPredictor(Protocol):
    """Predict the metrics of a candidate before it is built, by a cost model or from a table."""

    def predict(self, recipe: Recipe) -> dict[str, float]:
        """Metric -> predicted value."""
        ...


@dataclass(frozen=True)
class SurrogateSelector:
    """Picks proposals.

    Attributes:
        cost_model: of the model and machine.
        objectives: metric names.
        constraints: that candidates have to keep.
    """

    cost_model: MetricPredictor
    objectives: tuple[str, ...]
    constraints: tuple[Constraint, ...]
    #: Recipe key -> its predicted metrics: nothing is predicted twice.
    _predictions: dict[str, dict[str, float]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def predict(self, choice: Mapping[str, Scalar]) -> dict[str, float]:
        """Metric -> predicted value of a choice."""
        recipe = LANGUAGE.compose(choice)
        if recipe.key not in self._predictions:
            self._predictions[recipe.key] = self.cost_model.predict(recipe)
        return self._predictions[recipe.key]

    def best(self, pool: Sequence[Mapping[str, Scalar]], records: Sequence[TrialRecord], seed: int) -> int | None:
        """Find the proposal in ``pool`` that should add most to the front.

        Args:
            pool: canonical choices.
            records: of the ended candidates, without the base.
            seed: of the draw.

        Returns:
            Its index; None where no proposal should add anything.
        """
        rng = np.random.default_rng(seed)
        watched = [*self.objectives, *(c.metric for c in self.constraints if c.metric not in self.objectives)]
        drawn = {name: self.draw(name, pool, records, rng) for name in watched}
        points = np.stack([_directed(name, drawn[name]) for name in self.objectives], axis=1)
        allowed = np.ones(len(pool), dtype=bool)
        for constraint in self.constraints:
            allowed &= np.array([constraint.holds(value) for value in drawn[constraint.metric]])
        measured = self._measured(records)
        reference = self._reference(measured, points)
        members = measured[nondominated(measured)] if len(measured) else measured
        have = hypervolume(members, reference)
        adds = allowed & ~(members[:, None] <= points).all(axis=2).any(axis=0)
        gains = [
            hypervolume(np.vstack([members, point]), reference) - have if may else 0.0
            for point, may in zip(points, adds, strict=True)
        ]
        index = int(np.argmax(gains))
        return index if gains[index] > 0 else None

    def _measured(self, records: Sequence[TrialRecord]) -> Floats:
        """[records, objectives] of the feasible ones, to be minimized."""
        rows = [[directed(n, r.value(n)) for n in self.objectives] for r in records if r.feasible]
        return np.array(rows, dtype=np.float64).reshape(-1, len(self.objectives))

    def _reference(self, measured: Floats, predicted: Floats) -> Floats:
        """Worst values that still count: of the measured ones, once there are enough; of most predictions before."""
        worst = measured.max(axis=0) if len(measured) >= ENOUGH else np.quantile(predicted, 0.75, axis=0)
        best = np.vstack([measured, predicted]).min(axis=0)
        reference: Floats = worst + 0.1 * np.maximum(worst - best, 1e-9)
        return reference

    def draw(
        self,
        metric: str,
        pool: Sequence[Mapping[str, Scalar]],
        records: Sequence[TrialRecord],
        rng: np.random.Generator,
    ) -> Floats:
        """Draw one value of a metric for each proposal."""
        known = self._regression(metric, pool, records)
        weights, noise = posterior(known.tried, known.residuals, known.values, rng)
        drawn = known.predicted + known.features @ weights
        if len(known.residuals) >= LATE:
            drawn = drawn + noise * rng.standard_normal(len(pool))
        return _unlog(metric, drawn)

    def corrected(
        self,
        metric: str,
        pool: Sequence[Mapping[str, Scalar]],
        records: Sequence[TrialRecord],
        noise: float = NOISE,
    ) -> tuple[Floats, Floats]:
        """Mean and standard deviation [pool] of a metric on the scale of :func:`logs`, with each candidate's own error.

        Args:
            metric: its name.
            pool: canonical choices.
            records: of the ended candidates.
            noise: of a measured value around the corrected prediction, before there are residuals.
        """
        known = self._regression(metric, pool, records)
        fit = _best_fit(known.tried, known.residuals, known.values, noise)
        spread = np.einsum("ij,ji->i", known.features, np.linalg.solve(fit.precision, known.features.T))
        mean: Floats = known.predicted + known.features @ fit.mean
        sd: Floats = np.sqrt(np.maximum(spread, 0.0) + fit.noise**2)
        return mean, sd

    def neighbourhoods(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """The candidates whose neighbours are proposed: the front."""
        return front(records, self.objectives)

    def _regression(
        self, metric: str, pool: Sequence[Mapping[str, Scalar]], records: Sequence[TrialRecord]
    ) -> _Regression:
        """The regression that corrects the predictions of a metric."""
        trials = [r for r in records if metric in r.metrics]
        tried = [LANGUAGE.canonical(r.params) for r in trials]
        names = sorted(
            {pair for choice in (*pool, *tried) for pair in choice.items() if not isinstance(pair[1], float)}, key=str
        )
        predicted = logs(metric, [self.predict(choice)[metric] for choice in pool])
        centre = float(predicted.mean())
        of_trials = logs(metric, [self.predict(choice)[metric] for choice in tried])
        measured = logs(metric, [r.value(metric) for r in trials])
        return _Regression(
            predicted,
            _features(predicted - centre, pool, names),
            _features(of_trials - centre, tried, names),
            measured - of_trials,
            len(names),
        )


@dataclass(frozen=True)
class _Regression:
    """Predictions of a metric on the scale of :func:`logs`, and what the trials say of their error.

    Attributes:
        predicted: [pool] predictions.
        features: [pool, 2 + values] of the proposals.
        tried: [trials, 2 + values] features of the trials.
        residuals: [trials] log of measured over predicted.
        values: number of axis values.
    """

    predicted: Floats
    features: Floats
    tried: Floats
    residuals: Floats
    values: int


def posterior(features: Floats, residuals: Floats, values: int, rng: np.random.Generator) -> tuple[Floats, float]:
    """Draw the weights of a regression from their posterior.

    Args:
        features: [trials, 2 + values]: a one, the prediction, one for each axis value that a trial has.
        residuals: [trials] log of measured over predicted.
        values: number of axis values.
        rng: draws.

    Returns:
        Weights [features], and the standard deviation of the residuals that they leave.
    """
    best = _best_fit(features, residuals, values)
    factor = np.linalg.cholesky(best.precision)
    drawn: Floats = best.mean + np.linalg.solve(factor.T, rng.standard_normal(len(best.mean)))
    return drawn, best.noise


@dataclass(frozen=True)
class _Fit:
    """Posterior of the weights under one prior, and the log evidence of that prior (Bishop 2006, eq. 3.86).

    ``noise`` is the standard deviation of residuals.
    """

    mean: Floats
    precision: Floats
    evidence: float
    noise: float


def _best_fit(features: Floats, residuals: Floats, values: int, noise: float = NOISE) -> _Fit:
    """The fit with the prior of the largest evidence."""
    fits = [_fit(features, residuals, 1 / np.square([OFFSET, SLOPE, *[axis] * values]), noise) for axis in AXIS]
    return max(fits, key=lambda fit: fit.evidence)


def _fit(features: Floats, residuals: Floats, prior: Floats, noise: float) -> _Fit:
    variance = noise**2
    precision, mean = np.diag(prior), np.zeros(len(prior))
    left = residuals
    for _ in range(3):  # the noise from the residuals, the weights from the noise
        variance = (NOISE_COUNT * noise**2 + float(left @ left)) / (NOISE_COUNT + len(residuals))
        precision = np.diag(prior) + features.T @ features / variance
        mean = np.asarray(np.linalg.solve(precision, features.T @ residuals / variance), dtype=np.float64)
        left = residuals - features @ mean
    evidence = 0.5 * (
        float(np.log(prior).sum() - np.linalg.slogdet(precision)[1] - (prior * mean) @ mean)
        - float(left @ left) / variance
        - len(residuals) * math.log(variance)
    )
    return _Fit(mean, precision, evidence, math.sqrt(variance))


def _features(
    predictions: Floats, choices: Sequence[Mapping[str, Scalar]], names: Sequence[tuple[str, Scalar]]
) -> Floats:
    values = [[float(choice.get(axis) == value) for axis, value in names] for choice in choices]
    return np.column_stack([np.ones(len(choices)), predictions, np.reshape(values, (len(choices), len(names)))])


def logs(metric: str, values: Sequence[float]) -> Floats:
    """A metric on the scale on which its predictions are off by a constant."""
    linear: Floats = np.array(values, dtype=np.float64)
    if metric == "perplexity_ratio":
        linear = np.maximum(linear - 1, 1e-4)
    elif metric == "top1_agreement":
        linear = np.maximum(1 - linear, 1e-4)
    logs: Floats = np.log(np.maximum(linear, 1e-9))
    return logs


def _unlog(metric: str, logs: Floats) -> Floats:
    values: Floats = np.exp(np.minimum(logs, 50.0))
    if metric == "perplexity_ratio":
        return 1 + values
    return 1 - values if metric == "top1_agreement" else values


def _directed(metric: str, values: Floats) -> Floats:
    return np.array([directed(metric, value) for value in values])
