"""Optuna's side of a study: ask, tell, restore, and every private name of Optuna that a study needs.

Measured trials are COMPLETE with their constraints. A candidate that was stopped, or did not build, is PRUNED with a
violated constraint: FAIL would teach the sampler nothing, and it would come back to the same corner.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import PartialFixedSampler, RandomSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from olivine.passes.base import Scalar
from olivine.search.config.space import Space
from olivine.search.records import TrialRecord

#: Key of the attribute that a shared study keeps all metrics in: a write a metric would be most of what a trial costs.
METRICS_KEY = "metrics"
#: Where ``optuna.Trial.set_constraint`` keeps a constraint.
_CONSTRAINT = "constraints:"
_LOST = "its process ended before it was measured; it is proposed again"


def storage_of(study: optuna.Study) -> BaseStorage:
    """The storage of a study."""
    return study._storage


def id_of(study: optuna.Study) -> int:
    """The id of a study in its storage."""
    return study._study_id


def trial_id(trial: optuna.Trial | FrozenTrial) -> int:
    """The id of a trial in its storage, which is not its number."""
    return trial._trial_id


def name_metrics(study: optuna.Study, objectives: Sequence[str]) -> optuna.Study:
    """Name the values of a study, for dashboards; returns the study."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(objectives))
    return study


def ask(
    study: optuna.Study, space: Space, params: Mapping[str, Scalar], sampler_attrs: Mapping[str, Any] | None = None
) -> optuna.Trial:
    """Begin a trial of these values; without any, one that tells the sampler nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.sampler = PartialFixedSampler(dict(params), RandomSampler(seed=0))
    trial = study.ask()
    if params:
        space.suggest(trial)
    for name, value in (sampler_attrs or {}).items():
        trial.storage.set_trial_system_attr(trial._trial_id, name, value)
    return trial


def tell(
    study: optuna.Study, trial_id: int, record: TrialRecord, objectives: Sequence[str], *, compact: bool = False
) -> None:
    """Tell Optuna how a trial ended.

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
    metrics = {name: metric.value for name, metric in record.metrics.items()}
    notes: dict[str, Any] = {"state": record.state}
    if not compact:
        notes["recipe_key"] = record.recipe_key
    if record.reason:
        notes["reason"] = record.reason
    for name, value in (notes | ({METRICS_KEY: metrics} if compact else metrics)).items():
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


def restore(study: optuna.Study, records: Sequence[TrialRecord], space: Space) -> None:
    """Give a study whose database was lost the trials of its records; :func:`end_stale` tells how they ended."""
    by_number = {record.number: record for record in records}
    for number in range(len(study.trials), records[-1].number + 1 if records else 0):
        record = by_number.get(number)
        params = {}
        if record is not None and space.contains(space.catalog.canonical({**space.usual(), **record.params})):
            params = {name: value for name, value in record.params.items() if name in space.searched}
        ask(study, space, params)


def end_stale(study: optuna.Study, records: Sequence[TrialRecord], objectives: Sequence[str]) -> None:
    """End the trials that an interrupted process left running: from their record, or as failed without one."""
    by_number = {record.number: record for record in records}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)):
        if trial.number in by_number:
            tell(study, trial._trial_id, by_number[trial.number], objectives)
        else:
            study._storage.set_trial_user_attr(trial._trial_id, "reason", _LOST)
            study.tell(trial.number, state=TrialState.FAIL)


def distributions_of(space: Space, params: Mapping[str, Scalar]) -> dict[str, BaseDistribution]:
    """Axis -> distribution, for the searched axes among ``params``, as ``Trial.suggest_*`` would have made them.

    With them a trial can be created in one write.
    """
    replay = _Replay(params)
    if params:
        space.suggest(replay)
    return replay.distributions


class _Replay:
    """Answers every suggestion with a value that was chosen before, and notes the distribution it was chosen from."""

    def __init__(self, params: Mapping[str, Scalar]) -> None:
        self._params = params
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_categorical(self, name: str, choices: tuple[Scalar, ...]) -> Any:
        """The chosen value."""
        self.distributions[name] = CategoricalDistribution(choices)
        return self._params[name]

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int:
        """The chosen number."""
        self.distributions[name] = IntDistribution(low, high, step=step)
        return int(self._params[name])

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None) -> float:
        """The chosen number."""
        self.distributions[name] = FloatDistribution(low, high, step=step)
        return float(self._params[name])
