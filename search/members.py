"""Which candidates are confirmed: contenders along the whole front, or those that the selection may pick."""

from __future__ import annotations

from collections.abc import Sequence

from olivine.search.config import StudyConfig
from olivine.search.dominance import contenders
from olivine.search.metrics import Constraint, directed, parse_constraint
from olivine.search.records import TrialRecord


def to_confirm(records: Sequence[TrialRecord], config: StudyConfig) -> list[TrialRecord]:
    """At most ``confirm.members`` of a study's candidates that are not surely dominated.

    With ``confirm.selectable`` they are those that may keep ``select.where``: the best in the metric that decides, and
    the best in the last objective, which is there when all others turn out to have been lucky. Where none may keep it,
    all are as good: their confirmed values are the nearest misses.
    """
    candidates, count = [record for record in records if record.number > 0], config.confirm.members
    rule, objectives = config.select, config.objectives
    if not config.confirm.selectable or rule.by != "objective":
        return contenders(candidates, objectives, count)
    where = [parse_constraint(text) for text in rule.where]
    found = contenders(candidates, objectives, max(1, len(candidates)))
    able = [record for record in found if all(_may_hold(constraint, record) for constraint in where)]
    metric = rule.metric or objectives[0]
    if not able or any(metric not in record.metrics for record in able):
        return contenders(candidates, objectives, count)
    best = sorted(able, key=lambda record: directed(metric, record.value(metric)))
    safe = min(able, key=lambda record: directed(objectives[-1], record.value(objectives[-1])))
    chosen = best[:count] if safe in best[:count] else [*best[: count - 1], safe]
    return [record for record in found if record in chosen]


def _may_hold(constraint: Constraint, record: TrialRecord) -> bool:
    """Whether the better end of a record's interval keeps a constraint; true where nothing was measured."""
    found = record.metrics.get(constraint.metric)
    return found is None or constraint.holds(float(found["low" if constraint.relation == "<=" else "high"]))
