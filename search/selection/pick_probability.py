"""Likely picks: the candidates that ``select:`` may pick once they are measured again, the likeliest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from olivine.search.config.constraints import Constraint, parse_constraint
from olivine.search.config.sections import StudyConfig
from olivine.search.pareto import Floats, Mask
from olivine.search.records import TrialRecord
from olivine.search.selection.dominance_probability import standard_error
from olivine.search.selection.scalarize import rule_metrics, rule_scores

End = Literal["better", "value", "worse"]
#: Of a record's interval, from the most hopeful view of a limit to the surest.
ENDS: tuple[End, ...] = ("better", "value", "worse")
#: Random draws behind a probability: its standard error is below 0.012.
DRAWS = 2000


def likely_picks(records: Sequence[TrialRecord], config: StudyConfig) -> list[TrialRecord]:
    """Those that may keep the constraints: the pick by the search's values, then the likeliest picks.

    Readings are uncertain, so the best by value may break its limit when it is measured again, and a better one that
    seems to break it may keep it. A record's chance is the share of draws from all errors, taken as normal and
    independent, in which the rule picks it: the first k have the largest chance that the best is among them. Records
    without a chance follow in the rule's order.

    Args:
        records: candidates that are not surely dominated by others that may be picked.
        config: with the rule, ``select.where`` and the constraints.

    Returns:
        Records in the order of confirmation; empty where none may keep the constraints.
    """
    limits = [*map(parse_constraint, config.select.where), *config.parsed_constraints()]
    metrics = rule_metrics(config)
    measured = [record for record in records if all(name in record.metrics for name in metrics)]
    able = [record for record in measured if all(holds_at("better", limit, record) for limit in limits)]
    if not able:
        return []
    rng = np.random.default_rng(0)
    names = dict.fromkeys([*metrics, *(limit.metric for limit in limits)])
    drawn = {name: _draws(able, name, rng) for name in names}
    allowed = np.ones((DRAWS + 1, len(able)), dtype=np.bool_)
    for limit in limits:
        allowed &= _keeps(limit, drawn[limit.metric])
    picks = [_pick(config, {name: drawn[name][i] for name in metrics}, allowed[i]) for i in range(DRAWS + 1)]
    chances = np.bincount([pick for pick in picks[1:] if pick is not None], minlength=len(able))
    order = rule_scores(config, {name: drawn[name][0] for name in metrics})
    ranked = sorted(range(len(able)), key=lambda i: (i != picks[0], -chances[i], order[i], able[i].number))
    return [able[i] for i in ranked]


def holds_at(end: End, constraint: Constraint, record: TrialRecord) -> bool:
    """True when an end of a record's interval, or its value, keeps a constraint, or nothing was measured."""
    measurement = record.metrics.get(constraint.metric)
    if measurement is None:
        return True
    better, worse = ("low", "high") if constraint.relation == "<=" else ("high", "low")
    return constraint.holds(getattr(measurement, {"better": better, "value": "value", "worse": worse}[end]))


def _draws(records: Sequence[TrialRecord], metric: str, rng: np.random.Generator) -> Floats:
    """[1 + DRAWS, records] the values, then what they may be; NaN where nothing was measured."""
    measured = [record.metrics.get(metric) for record in records]
    values = np.array([np.nan if reading is None else reading.value for reading in measured])
    errors = np.array([np.nan if reading is None else standard_error(reading) for reading in measured])
    noise = rng.standard_normal((DRAWS, len(records)))
    return np.vstack([values, values + errors * noise])


def _keeps(limit: Constraint, drawn: Floats) -> Mask:
    """[draws, records] mask of drawn values that keep a constraint; one that was not measured breaks none."""
    holds: Mask = drawn <= limit.bound if limit.relation == "<=" else drawn >= limit.bound
    return holds | np.isnan(drawn)


def _pick(config: StudyConfig, values: dict[str, Floats], allowed: Mask) -> int | None:
    """Index of the rule's pick among those that keep the constraints."""
    left = np.flatnonzero(allowed)
    if not len(left):
        return None
    return int(left[np.argmin(rule_scores(config, {name: column[left] for name, column in values.items()}))])
