"""Dominance between points that are known with errors: the probability that another one beats a point in everything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.metric import directed
from olivine.evaluators.stats import LEVEL
from olivine.search.pareto import Floats, Mask, front, nondominated
from olivine.search.records import Metrics, TrialRecord

#: A point leaves the front when it is dominated with this probability; from 1 minus this on it is a near-tie.
SURE = 0.95
#: Random draws behind a probability: its standard error is below 0.008.
DRAWS, MIN_DRAWS = 4000, 200
#: Comparisons of two points over all draws.
COMPARISONS = 40_000_000
#: Comparisons that are held in memory at once.
AT_ONCE = 1_000_000
#: Standard errors on either side beyond which there is no doubt.
MARGIN = 4.0
#: Standard error, relative to the value, of a metric whose interval has no end.
UNKNOWN = 10.0


def dominated_probability(centres: Floats, errors: Floats, seed: int = 0) -> Floats:
    """[n] probability that some other point is nowhere worse and somewhere better than this one.

    The share of random draws from all points' normal errors in which that is so; a whole draw at a time, since the
    rivals of one point share its error.

    Args:
        centres: [n, m] estimates, to be minimised.
        errors: [n, m] their standard errors; 0 for what is counted.
        seed: of the draws.

    Source: Hughes (2001), Evolutionary multi-objective ranking with uncertainty and noise, EMO 2001, for dominance
    as a probability.
    """
    open_ = np.flatnonzero(~_beyond_doubt(centres, errors))
    beaten = np.ones(len(centres))
    if len(open_):
        draws = max(MIN_DRAWS, min(DRAWS, COMPARISONS // len(open_) ** 2))
        noise = np.random.default_rng(seed).standard_normal((draws, len(open_), centres.shape[1]))
        parts = np.array_split(centres[open_] + noise * errors[open_], -(-draws * len(open_) ** 2 // AT_ONCE))
        beaten[open_] = np.mean(np.concatenate([~nondominated(part) for part in parts]), axis=0)
    return beaten


def _beyond_doubt(centres: Floats, errors: Floats) -> Mask:
    """[n] mask of points that another beats beyond doubt; no draw of them is needed: it beats their rivals too."""
    best, worst = centres - MARGIN * errors, centres + MARGIN * errors
    beaten: Mask = np.any((worst[:, None, :] < best[None, :, :]).all(axis=2), axis=0, keepdims=True)[0]
    return beaten


def dominated_among(points: Sequence[Metrics], objectives: Sequence[str]) -> list[float]:
    """:func:`dominated_probability` of measured points."""
    centres = [[directed(name, point[name].value) for name in objectives] for point in points]
    errors = [[standard_error(point[name]) for name in objectives] for point in points]
    shape = (len(points), len(objectives))
    beaten = dominated_probability(np.reshape(centres, shape), np.reshape(errors, shape))
    return [round(float(probability), 4) for probability in beaten]


def standard_error(measurement: Measurement) -> float:
    """The standard error behind a 95 % interval, errors taken as normal."""
    half = (measurement.high - measurement.low) / 2
    return half / NormalDist().inv_cdf((1 + LEVEL) / 2) if math.isfinite(half) else UNKNOWN * abs(measurement.value)


def likely_front(
    records: Sequence[TrialRecord], objectives: Sequence[str], count: int, first: Sequence[TrialRecord] = ()
) -> list[TrialRecord]:
    """At most ``count`` of the feasible records that are not surely dominated, best in the first objective first.

    The front comes before its near-ties: spread evenly along it where it alone is too many, and filled up with the
    likeliest to belong to it where there is room. At most ``count`` records that are ``first`` have their place before
    all others, then the best in each objective.
    """
    feasible = [record for record in records if record.feasible]
    ahead = front(feasible, objectives)

    def place(record: TrialRecord) -> tuple[float, int]:
        return directed(objectives[0], record.value(objectives[0])), record.number

    # With two objectives the best in each are the ends of the front, where it is spread anyhow.
    best = [_best(ahead, name) for name in objectives if ahead and len(objectives) > 2]
    line = {record.number: record for record in [*ahead, *first]}
    kept = list({record.number: record for record in [*first, *best]}.values())[:count]
    chosen = spread(sorted(line.values(), key=place), count, kept)
    beaten = dominated_among([record.metrics for record in feasible], objectives)
    numbers = {record.number for record in chosen}
    near = sorted(
        (probability, record.number, record)
        for probability, record in zip(beaten, feasible, strict=True)
        if probability < SURE and record.number not in numbers
    )
    chosen += [record for _, _, record in near[: count - len(chosen)]]
    return sorted(chosen, key=place)


def _best(records: Sequence[TrialRecord], objective: str) -> TrialRecord:
    return min(records, key=lambda record: (directed(objective, record.value(objective)), record.number))


def spread(members: Sequence[TrialRecord], count: int, first: Sequence[TrialRecord] = ()) -> list[TrialRecord]:
    """At most ``count`` members, spread evenly along the front, both ends included; beside those that are ``first``.

    With such ones each further member is the one that is furthest, in places along the front, from all chosen.
    """
    if len(members) <= count:
        return list(members)
    chosen = [index for index, member in enumerate(members) if member in first]
    if not chosen:
        steps = max(1, count - 1)
        return [members[round(i * (len(members) - 1) / steps)] for i in range(count)]
    while len(chosen) < count:
        gaps = [min(abs(index - other) for other in chosen) for index in range(len(members))]
        chosen.append(gaps.index(max(gaps)))
    return [members[index] for index in sorted(chosen)]
