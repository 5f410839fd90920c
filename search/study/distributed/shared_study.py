"""A study that several workers share: its trials, and beside them who works, whose turn it is, and what waits.

Three studies of one storage: ``NAME`` holds the trials, as if one process had run it; ``NAME (turns)`` the tickets
(:mod:`olivine.search.study.distributed.ticket_lock`), the roster and the facts that all workers go by;
``NAME (handover)`` one trial for each part of a trial that waits for a worker of another role: whoever sets it from
WAITING to RUNNING has it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from olivine.passes.base import Scalar
from olivine.search.study.distributed.heartbeat import WorkerRegistry
from olivine.search.study.distributed.ticket_lock import Ticket, TicketLock

_FACTS = "facts"
_WORKER, _CHOICE, _LOST, _TRIAL, _STAGE = "worker", "choice", "lost", "trial", "stage"
KEY = "recipe_key"
#: Trials that count: measured, stopped, or under way.
_COUNTED = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Handover:
    """A part of a trial that waits for, or is done by, a worker of another role."""

    id: int
    trial_id: int
    stage: str


@dataclass(frozen=True)
class SharedStudy:
    """The shared side of one study.

    Attributes:
        study: its trials.
        side: id of the study with tickets, roster and facts.
        parts: id of the study with what waits for other roles.
        roster: who works.
    """

    study: optuna.Study
    side: int
    parts: int
    roster: WorkerRegistry

    @property
    def storage(self) -> BaseStorage:
        """Where all of it is."""
        return self.study._storage

    @property
    def turns(self) -> TicketLock:
        """Whose turn it is to choose the next candidate."""
        return TicketLock(self.storage, self.side, self.roster)

    def facts(self) -> dict[str, Any]:
        """What all workers go by; empty until the base is measured."""
        found: dict[str, Any] = self.storage.get_study_system_attrs(self.side).get(_FACTS, {})
        return found

    def publish(self, facts: Mapping[str, Any]) -> None:
        """Set what all workers go by."""
        self.storage.set_study_system_attr(self.side, _FACTS, dict(facts))

    def trials(self) -> list[FrozenTrial]:
        """All trials, by number."""
        return self.study.get_trials(deepcopy=False)

    def claim(
        self,
        turn: Ticket,
        choice: Mapping[str, Scalar],
        key: str,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        attrs: Mapping[str, Any],
    ) -> FrozenTrial | None:
        """Create the trial of a candidate, in one write; None where the turn was lost before that."""
        template = create_trial(
            state=TrialState.RUNNING,
            params=dict(params),
            distributions=dict(distributions),
            user_attrs={KEY: key},
            system_attrs={**attrs, _WORKER: self.roster.name, _CHOICE: json.dumps(dict(choice))},
        )
        trial_id = self.storage.create_new_trial(self.study._study_id, template)
        if not turn.holds():
            self.storage.set_trial_state_values(trial_id, TrialState.FAIL)
            return None
        return self.storage.get_trial(trial_id)

    def is_mine(self, trial_id: int) -> bool:
        """Whether a trial of this worker still runs: it was not given to another."""
        return self.storage.get_trial(trial_id).state == TrialState.RUNNING

    def hand_over(self, trial_id: int, stage: str) -> None:
        """Let a worker of another role go on with a trial."""
        attrs = {_TRIAL: trial_id, _STAGE: stage}
        self.storage.create_new_trial(self.parts, create_trial(state=TrialState.WAITING, system_attrs=attrs))

    def waiting(self) -> list[Handover]:
        """The parts that nobody does yet, the oldest first."""
        found = self.storage.get_all_trials(self.parts, deepcopy=False, states=(TrialState.WAITING,))
        return [Handover(t._trial_id, t.system_attrs[_TRIAL], t.system_attrs[_STAGE]) for t in found]

    def take(self, part: Handover) -> bool:
        """Whether this worker got the part; exactly one does."""
        try:
            if not self.storage.set_trial_state_values(part.id, TrialState.RUNNING):
                return False
            self.storage.set_trial_system_attr(part.id, _WORKER, self.roster.name)
        except UpdateFinishedTrialError:
            return False
        return True

    def finish(self, part: Handover) -> None:
        """The part is done, or no longer ours."""
        self._close(part.id)

    def lose_the_dead(self, told: Callable[[FrozenTrial], bool]) -> list[FrozenTrial]:
        """End the trials whose worker is gone, so that another takes them.

        Args:
            told: ends a trial whose record was written before its worker was gone; False where there is none.

        Returns:
            The trials that this call gave up.
        """
        trials = self.trials()
        running = [t for t in trials if t.state == TrialState.RUNNING and KEY in t.user_attrs]
        owners = {t._trial_id: t.system_attrs.get(_WORKER, "") for t in running}
        latest = {part.system_attrs[_TRIAL]: part for part in self.storage.get_all_trials(self.parts, deepcopy=False)}
        gone = self.roster.gone({*owners.values(), *(p.system_attrs.get(_WORKER, "") for p in latest.values())})
        lost = []
        for trial in running:
            part = latest.get(trial._trial_id)
            if part is None:
                dead = owners[trial._trial_id] in gone
            elif part.state == TrialState.RUNNING:
                dead = part.system_attrs.get(_WORKER, "") in gone
            else:
                dead = part.state != TrialState.WAITING
            if dead and self._lose(trial, part, told):
                lost.append(trial)
        return lost

    def _lose(self, trial: FrozenTrial, part: FrozenTrial | None, told: Callable[[FrozenTrial], bool]) -> bool:
        try:
            if told(trial):
                return False
            self.storage.set_trial_system_attr(trial._trial_id, _LOST, True)
            self.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        except UpdateFinishedTrialError:
            return False
        if part is not None:
            self._close(part._trial_id)
        return True

    def _close(self, part_id: int) -> None:
        try:
            self.storage.set_trial_state_values(part_id, TrialState.FAIL)
        except UpdateFinishedTrialError:
            return  # another has closed it


def counted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The candidates that count towards the budget: all but the base and what was lost."""
    return [t for t in trials if t.number > 0 and t.state in _COUNTED]


def keys(trials: Sequence[FrozenTrial]) -> set[str]:
    """Recipe keys of the base and of the candidates that count."""
    return {t.user_attrs[KEY] for t in trials if t.state in _COUNTED and KEY in t.user_attrs}


def lost_choice(trials: Sequence[FrozenTrial]) -> dict[str, Scalar] | None:
    """The choice of a trial whose worker was lost, and that nobody has taken since; None where there is none."""
    taken = keys(trials)
    for trial in trials:
        if trial.state == TrialState.FAIL and _LOST in trial.system_attrs and trial.user_attrs[KEY] not in taken:
            choice: dict[str, Scalar] = json.loads(trial.system_attrs[_CHOICE])
            return choice
    return None


def choice_of(trial: FrozenTrial) -> dict[str, Scalar]:
    """The choice that a claimed trial stands for."""
    choice: dict[str, Scalar] = json.loads(trial.system_attrs[_CHOICE])
    return choice


def worker_of(trial: FrozenTrial) -> str:
    """The worker that claimed a trial."""
    return str(trial.system_attrs.get(_WORKER, ""))


def lost_numbers(trials: Sequence[FrozenTrial]) -> set[int]:
    """Numbers of the trials that were given up."""
    return {t.number for t in trials if t.state == TrialState.FAIL}
