"""The rule of ``select:`` as scores: the same for what the search measured and for what confirmation did."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from olivine.evaluators.metric import directed
from olivine.search.config.sections import StudyConfig
from olivine.search.pareto import Floats, scaled_sum


def rule_metrics(config: StudyConfig) -> tuple[str, ...]:
    """The metrics that the rule looks at."""
    rule = config.select
    return (rule.metric or config.objectives[0],) if rule.by == "objective" else config.objectives


def rule_scores(config: StudyConfig, columns: Mapping[str, Floats]) -> Floats:
    """[n] scores of candidates that keep ``select.where``; the rule picks the least, the first of equals.

    Args:
        config: whose ``select`` is the rule.
        columns: metric -> [n] values, for each of :func:`rule_metrics`.
    """
    names = rule_metrics(config)
    points = np.column_stack([directed(name, 1.0) * columns[name] for name in names])
    if config.select.by == "objective":
        return points[:, 0]
    knee = config.select.by == "knee"
    return scaled_sum(points, [1.0 if knee else config.select.weights.get(name, 0.0) for name in names])
