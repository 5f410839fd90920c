"""The Pareto front, its hypervolume, its knee and its nearest misses: pure functions of points and trial records.

Points are [n, m] with every objective to be minimised; :func:`minimised` turns records into such points.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from olivine.evaluators.metric import directed
from olivine.search.records import TrialRecord

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def minimised(records: Sequence[TrialRecord], objectives: Sequence[str]) -> Floats:
    """[records, objectives] values, negated where more is better.

    Raises:
        KeyError: when a record ended before an objective was measured.
    """
    rows = [[directed(name, record.value(name)) for name in objectives] for record in records]
    return np.array(rows, dtype=np.float64).reshape(len(records), len(objectives))


def nondominated(points: Floats) -> Mask:
    """[..., n] mask of the [..., n, m] finite points that no other point of their set dominates; equal points all stay.

    A point dominates another when it is nowhere worse and somewhere better.
    """
    ours, theirs = points[..., :, None, :], points[..., None, :, :]
    dominates: Mask = np.all(ours <= theirs, axis=-1) & np.any(ours < theirs, axis=-1)
    return np.logical_not(dominates.any(axis=-2)).astype(np.bool_)


def front(records: Sequence[TrialRecord], objectives: Sequence[str]) -> list[TrialRecord]:
    """The nondominated ones of the feasible records, best in the first objective first."""
    feasible = [record for record in records if record.feasible]
    if not feasible:
        return []
    points = minimised(feasible, objectives)
    members = np.flatnonzero(nondominated(points))
    order = sorted(members, key=lambda i: (*points[i], feasible[i].number))
    return [feasible[i] for i in order]


def hypervolume(points: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Volume that [n, m] points dominate below ``reference``; points beyond it in any objective add nothing.

    Slices along the last objective and recurses, exponential in m at worst: meant for the two to four
    objectives of a study.

    Source: While, Hingston, Barone and Huband (2006), A faster algorithm for calculating hypervolume, IEEE
    Trans. Evol. Comput. 10(1), section II (hypervolume by slicing objectives).
    """
    return _volume(np.asarray(points, dtype=np.float64), np.asarray(reference, dtype=np.float64))


def _volume(points: Floats, reference: Floats) -> float:
    inside = np.unique(points[(points < reference).all(axis=1)], axis=0)
    if len(inside) == 0:
        return 0.0
    if inside.shape[1] == 1:
        return float(reference[0] - inside.min())
    if inside.shape[1] == 2:  # steps of a staircase: np.unique has sorted them by the first objective
        heights = reference[1] - np.minimum.accumulate(inside[:, 1])
        return float(np.diff(np.append(inside[:, 0], reference[0])) @ heights)
    inside = inside[np.argsort(inside[:, -1], kind="stable")]
    ends = np.append(inside[1:, -1], reference[-1])
    volume = 0.0
    for i, depth in enumerate(ends - inside[:, -1]):
        if depth > 0:
            volume += float(depth) * _volume(inside[: i + 1, :-1], reference[:-1])
    return volume


def hypervolume_history(
    records: Sequence[TrialRecord], objectives: Sequence[str], reference: Floats | None = None
) -> list[float]:
    """Hypervolume of the front after each record, in the order given.

    Args:
        records: all trials; those that are not feasible add nothing.
        objectives: metric names.
        reference: in minimised coordinates; by default the worst feasible value of each objective, a tenth of
            the range further out, so that the extreme points count too.
    """
    feasible = [record for record in records if record.feasible]
    if not feasible:
        return [0.0] * len(records)
    everything = minimised(feasible, objectives)
    worst = everything.max(axis=0)
    span = worst - everything.min(axis=0)
    bound = worst + 0.1 * np.where(span > 0, span, 1.0) if reference is None else reference
    history: list[float] = []
    members = np.empty((0, len(objectives)))
    for record in records:
        if record.feasible:
            members = np.concatenate([members, minimised([record], objectives)])
            members = members[nondominated(members)]
        history.append(_volume(members, bound))
    return history


def last_growth(records: Sequence[TrialRecord], objectives: Sequence[str]) -> int:
    """The number of records after which the hypervolume of their front has not grown any more."""
    history = hypervolume_history(records, objectives)
    grown = [i for i, area in enumerate(history) if area > (history[i - 1] if i else 0.0) * (1 + 1e-9)]
    return grown[-1] + 1 if grown else 0


def knee(points: Floats) -> int:
    """Index of the point of a front that lies furthest below the chord between its ends.

    Each objective is scaled to the front's range first. For two objectives this is the point of the largest
    distance to the line through the two individual minima; for more, to the plane of equal normalised sums.
    The first of equals wins.

    Source: Das (1999), On characterizing the 'knee' of the Pareto curve based on normal-boundary
    intersection, Structural Optimization 18.
    """
    return int(np.argmin(scaled_sum(points, [1.0] * points.shape[1])))


def weighted(points: Floats, weights: Sequence[float]) -> int:
    """Index of the point of a front with the smallest :func:`scaled_sum`; the first of equals."""
    return int(np.argmin(scaled_sum(points, weights)))


def scaled_sum(points: Floats, weights: Sequence[float]) -> Floats:
    """[n] weighted sums of objectives scaled to the range of [n, m] points.

    Raises:
        ValueError: when the weights are not one nonnegative number per objective, not all 0.
    """
    if len(weights) != points.shape[1] or min(weights) < 0 or max(weights) <= 0:
        raise ValueError(f"{list(weights)} are no weights for {points.shape[1]} objectives: one number >= 0 for each")
    sums: Floats = _scaled(points) @ np.asarray(weights, dtype=np.float64)
    return sums


def _scaled(points: Floats) -> Floats:
    """Every objective to 0 (best on the front) .. 1 (worst); one that does not vary to 0."""
    low = points.min(axis=0)
    span = points.max(axis=0) - low
    scaled: Floats = (points - low) / np.where(span > 0, span, 1.0)
    return scaled


def violation(record: TrialRecord) -> float:
    """Sum of what ``record`` breaks, relative to each bound; infinite where nothing was measured."""
    if not record.constraints:
        return float("inf")
    return sum(max(0.0, excess) for excess in record.constraints.values())


def nearest_misses(records: Sequence[TrialRecord], n: int) -> list[TrialRecord]:
    """The ``n`` infeasible records that break their constraints by least in total, nearest first."""
    missed = [record for record in records if record.state == "infeasible"]
    return sorted(missed, key=lambda record: (violation(record), record.number))[:n]
