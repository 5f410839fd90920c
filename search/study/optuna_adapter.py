"""Telling Optuna how a trial ended."""

from __future__ import annotations

import math
from collections.abc import Sequence

import optuna
from optuna.trial import TrialState

from olivine.search.records import TrialRecord

#: Key of the attribute that a shared study keeps all metrics in: a write a metric would be most of what a trial costs.
METRICS_KEY = "metrics"
#: Where ``optuna.Trial.set_constraint`` keeps a constraint.
_CONSTRAINT = "constraints:"


def tell(
    study: optuna.Study, trial_id: int, record: TrialRecord, objectives: Sequence[str], *, compact: bool = False
) -> None:
    """Tell Optuna how a trial ended.

    Measured trials are COMPLETE with their constraints; a candidate that was stopped, or did not build, is PRUNED
    with a violated constraint: FAIL would teach the sampler nothing, and it would come back to the same corner.

    Args:
        study: the study.
        trial_id: of the trial in the storage.
        record: how it ended.
        objectives: the metrics that are the study's values.
        compact: for storages across a network: all metrics in one attribute, and no recipe key, which the claim of a
            shared study has set.

    Raises:
        UpdateFinishedTrialError: when the trial was ended by somebody else meanwhile.
    """
    storage = study._storage
    metrics = {name: metric["value"] for name, metric in record.metrics.items()}
    notes: dict[str, str] = (
        {"state": record.state} if compact else {"recipe_key": record.recipe_key, "state": record.state}
    )
    if record.reason:
        notes["reason"] = record.reason
    for name, value in {**notes, **({METRICS_KEY: metrics} if compact else metrics)}.items():
        storage.set_trial_user_attr(trial_id, name, value)
    measured = record.state != "failed" and all(math.isfinite(metrics.get(name, math.nan)) for name in objectives)
    constraints = {**record.constraints, "builds and runs": 1.0 if record.state == "failed" else 0.0}
    if not measured and not any(violation > 0 for violation in constraints.values()):
        constraints["surely kept"] = 1.0
    for name, violation in constraints.items():
        storage.set_trial_system_attr(trial_id, f"{_CONSTRAINT}{name}", float(violation))
    if measured:
        storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [float(metrics[name]) for name in objectives])
    else:
        storage.set_trial_state_values(trial_id, TrialState.PRUNED)
