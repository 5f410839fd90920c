"""ShownStorage: a study's database as optuna-dashboard is to show it."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from optuna.storages import RDBStorage
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

_OPTUNA_PREFIX = "constraints:"
_DASHBOARD_KEY = "constraints"


class ShownStorage(RDBStorage):
    """Shows optuna-dashboard (0.21) what it can't read from a study of Optuna 5; the database stays as it is.

    Args:
        url: of the database, whose first study is the folder's.
        name: the study's own; in the database all studies have the same name, since each has a file of its own.

    1. ``Trial.set_constraint`` writes one attribute per constraint, ``constraints:NAME``; the dashboard reads
       one list, ``constraints``, as Optuna 4 wrote it. Writing both would count every constraint twice for
       the sampler, and an ended trial can't be changed, so the list is added on the way to the page.
    2. The dashboard's "Best Trial" and its own Pareto plot ignore constraints. A trial that was measured in
       full and breaks one is shown as pruned, like those that were stopped early: it can't pose as the best.
    """

    def __init__(self, url: str, name: str) -> None:
        super().__init__(url)
        self._name = name

    def get_study_name_from_id(self, study_id: int) -> str:
        """The study's own name."""
        return self._name if study_id == self._first() else super().get_study_name_from_id(study_id)

    def get_study_id_from_name(self, study_name: str) -> int:
        """The study of a name, its own or that in the database."""
        return self._first() if study_name == self._name else super().get_study_id_from_name(study_name)

    def get_all_studies(self) -> list[FrozenStudy]:
        """The study, under its own name, and those that somebody has made in the dashboard."""
        studies = super().get_all_studies()
        for study in studies:
            study.study_name = self.get_study_name_from_id(study._study_id)
        return studies

    def _first(self) -> int:
        return min(study._study_id for study in super().get_all_studies())

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """The trial as the dashboard is to see it."""
        return _shown(super().get_trial(trial_id))

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials as the dashboard is to see them."""
        shown = [_shown(trial) for trial in super().get_all_trials(study_id, deepcopy)]
        return [trial for trial in shown if states is None or trial.state in states]


def _shown(trial: FrozenTrial) -> FrozenTrial:
    attributes: dict[str, Any] = trial._system_attrs
    violations = [value for key, value in attributes.items() if key.startswith(_OPTUNA_PREFIX)]
    if violations and _DASHBOARD_KEY not in attributes:
        trial._system_attrs = {**attributes, _DASHBOARD_KEY: violations}
    if trial.state == TrialState.COMPLETE and any(value > 0 for value in violations):
        trial.state = TrialState.PRUNED
    return trial
