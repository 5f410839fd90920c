"""Goal: the metric that a study is to make best, and the limits that its selection has to keep."""

from __future__ import annotations

from dataclasses import dataclass

from olivine.search.config.constraints import Constraint, parse_constraint
from olivine.search.config.sections import StudyConfig
from olivine.search.samplers.cost_model import PREDICTED


@dataclass(frozen=True)
class Goal:
    """The best candidate within limits.

    Attributes:
        metric: that is to be best.
        limits: that the candidate has to keep, each metric's tightest ones.
    """

    metric: str
    limits: tuple[Constraint, ...]


def goal_of(config: StudyConfig) -> Goal | None:
    """The goal of a study whose ``select:`` picks the best of one metric within limits.

    Returns:
        The goal; None where the rule is another one, or the cost model does not predict a metric of it.
    """
    rule = config.select
    if rule.by != "objective" or not rule.where:
        return None
    limits = [*map(parse_constraint, rule.where), *config.parsed_constraints()]
    tightest: dict[tuple[str, str], Constraint] = {}
    for limit in limits:
        key = (limit.metric, limit.relation)
        if key not in tightest or tightest[key].violation(limit.bound) < 0:
            tightest[key] = limit
    goal = Goal(rule.metric or config.objectives[0], tuple(tightest.values()))
    return goal if PREDICTED.issuperset([goal.metric, *(limit.metric for limit in goal.limits)]) else None
