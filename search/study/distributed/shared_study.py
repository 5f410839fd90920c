"""A study that several workers share: its trials, and beside them the workers, their turns, and the parts that wait.

Three studies of one storage: ``NAME`` holds the trials, as if one process had run it; ``NAME (turns)`` the tickets
(:mod:`olivine.search.study.distributed.ticket_lock`), the registry of workers and the facts that all of them go by;
``NAME (handover)`` one trial for each part of a trial that waits for a worker of another role: the worker that sets it
from WAITING to RUNNING has it.
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
from olivine.search.samplers.proposer import Proposal
from olivine.search.study.distributed.heartbeat import WorkerRegistry
from olivine.search.study.distributed.ticket_lock import Ticket, TicketLock
from olivine.search.study.optuna_adapter import id_of, storage_of, trial_id
from olivine.search.workloads.stage import Role

_FACTS = "facts"
_WORKER, _CHOICE, _LOST, _TRIAL, _STAGE = "worker", "choice", "lost", "trial", "stage"
KEY = "recipe_key"
#: Trials that count: measured, stopped, or under way.
_COUNTED = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class WaitingPart:
    """A part of a trial that waits for, or is done by, a worker of another role."""

    id: int
    trial_id: int
    role: Role


@dataclass(frozen=True)
class SharedStudy:
    """The shared side of one study.

    Attributes:
        study: its trials.
        side: id of the study with tickets, registry and facts.
        parts: id of the study with the parts that wait for other roles.
        registry: its workers.
    """

    study: optuna.Study
    side: int
    parts: int
    registry: WorkerRegistry

    @property
    def storage(self) -> BaseStorage:
        """The storage of all of it."""
        return storage_of(self.study)

    @property
    def ticket_lock(self) -> TicketLock:
        """Gives one worker at a time the turn to choose the next candidate."""
        return TicketLock(self.storage, self.side, self.registry)

    def facts(self) -> dict[str, Any]:
        """Facts that all workers go by; empty until the base is measured."""
        facts: dict[str, Any] = self.storage.get_study_system_attrs(self.side).get(_FACTS, {})
        return facts

    def publish(self, facts: Mapping[str, Any]) -> None:
        """Set the facts that all workers go by."""
        self.storage.set_study_system_attr(self.side, _FACTS, dict(facts))

    def trials(self) -> list[FrozenTrial]:
        """All trials, by number."""
        return self.study.get_trials(deepcopy=False)

    def claim(
        self,
        ticket: Ticket,
        proposal: Proposal,
        key: str,
        distributions: Mapping[str, BaseDistribution],
    ) -> FrozenTrial | None:
        """Create the trial of a candidate, in one write; None where the turn was lost before that.

        Args:
            ticket: of this worker's turn.
            proposal: the candidate.
            key: of its recipe.
            distributions: of its parameters.
        """
        template = create_trial(
            state=TrialState.RUNNING,
            params=dict(proposal.params),
            distributions=dict(distributions),
            user_attrs={KEY: key},
            system_attrs={
                **proposal.sampler_attrs,
                _WORKER: self.registry.name,
                _CHOICE: json.dumps(dict(proposal.choice)),
            },
        )
        created = self.storage.create_new_trial(id_of(self.study), template)
        if not ticket.holds():
            self.storage.set_trial_state_values(created, TrialState.FAIL)
            return None
        return self.storage.get_trial(created)

    def is_mine(self, trial_id: int) -> bool:
        """True while a trial of this worker runs, and was not given to another."""
        return self.storage.get_trial(trial_id).state == TrialState.RUNNING

    def hand_over(self, trial_id: int, role: Role) -> None:
        """Let a worker of another role go on with a trial."""
        attrs = {_TRIAL: trial_id, _STAGE: role}
        self.storage.create_new_trial(self.parts, create_trial(state=TrialState.WAITING, system_attrs=attrs))

    def waiting(self) -> list[WaitingPart]:
        """The parts that nobody does yet, the oldest first."""
        parts = self.storage.get_all_trials(self.parts, deepcopy=False, states=(TrialState.WAITING,))
        return [WaitingPart(trial_id(t), t.system_attrs[_TRIAL], t.system_attrs[_STAGE]) for t in parts]

    def take(self, part: WaitingPart) -> bool:
        """Take a part; True for the one worker that gets it."""
        try:
            if not self.storage.set_trial_state_values(part.id, TrialState.RUNNING):
                return False
            self.storage.set_trial_system_attr(part.id, _WORKER, self.registry.name)
        except UpdateFinishedTrialError:
            return False
        return True

    def finish(self, part: WaitingPart) -> None:
        """The part is done, or no longer ours."""
        self._close(part.id)

    def lose_the_dead(self, tell: Callable[[FrozenTrial], bool]) -> list[FrozenTrial]:
        """End the trials whose worker is gone, so that another takes them.

        Args:
            tell: ends a trial whose record was written before its worker was gone; False where there is none.

        Returns:
            The trials that this call gave up.
        """
        trials = self.trials()
        running = [t for t in trials if t.state == TrialState.RUNNING and KEY in t.user_attrs]
        owners = {trial_id(t): t.system_attrs.get(_WORKER, "") for t in running}
        latest = {part.system_attrs[_TRIAL]: part for part in self.storage.get_all_trials(self.parts, deepcopy=False)}
        gone = self.registry.gone({*owners.values(), *(p.system_attrs.get(_WORKER, "") for p in latest.values())})
        lost = []
        for trial in running:
            part = latest.get(trial_id(trial))
            if part is None:
                dead = owners[trial_id(trial)] in gone
            elif part.state == TrialState.RUNNING:
                dead = part.system_attrs.get(_WORKER, "") in gone
            else:
                dead = part.state != TrialState.WAITING
            if dead and self._lose(trial, part, tell):
                lost.append(trial)
        return lost

    def _lose(self, trial: FrozenTrial, part: FrozenTrial | None, tell: Callable[[FrozenTrial], bool]) -> bool:
        try:
            if tell(trial):
                return False
            self.storage.set_trial_system_attr(trial_id(trial), _LOST, True)
            self.storage.set_trial_state_values(trial_id(trial), TrialState.FAIL)
        except UpdateFinishedTrialError:
            return False
        if part is not None:
            self._close(trial_id(part))
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
    retried = keys(trials)
    for trial in trials:
        if trial.state == TrialState.FAIL and _LOST in trial.system_attrs and trial.user_attrs[KEY] not in retried:
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
