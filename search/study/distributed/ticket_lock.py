"""TicketLock: a lock that works in every storage of Optuna, given in the order in which workers ask.

A ticket is a trial of a study of its own: the storage numbers trials one by one, so a lower number came first. A
worker's turn has come when no lower ticket is open. The ticket of a worker that is gone is closed by the next one that
waits behind it. A trial that is created in a turn counts only if the ticket is still open afterwards
(:meth:`Ticket.holds`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import TrialState, create_trial

from olivine.search.study.distributed.heartbeat import WorkerRegistry
from olivine.search.study.optuna_adapter import trial_id

POLL_S = 0.05
_WORKER = "worker"


@dataclass(frozen=True)
class Ticket:
    """This worker's turn."""

    storage: BaseStorage
    ticket: int

    def holds(self) -> bool:
        """True while nobody has taken this worker for gone and closed its ticket."""
        return self.storage.get_trial(self.ticket).state == TrialState.RUNNING


@dataclass(frozen=True)
class TicketLock:
    """The tickets of one study.

    Attributes:
        storage: that keeps them.
        study_id: the study that holds them.
        registry: tells the workers that are gone.
    """

    storage: BaseStorage
    study_id: int
    registry: WorkerRegistry

    @contextmanager
    def turn(self) -> Iterator[Ticket]:
        """Wait for this worker's turn; it ends with the block."""
        template = create_trial(state=TrialState.RUNNING, system_attrs={_WORKER: self.registry.name})
        ticket = self.storage.create_new_trial(self.study_id, template)
        try:
            while self._others_before(ticket):
                time.sleep(POLL_S)
            yield Ticket(self.storage, ticket)
        finally:
            self._close(ticket)

    def _others_before(self, ticket: int) -> bool:
        """True where somebody is before us in the queue; tickets of those that are gone are closed."""
        open_tickets = self.storage.get_all_trials(self.study_id, deepcopy=False, states=(TrialState.RUNNING,))
        before = [(trial_id(t), t.system_attrs[_WORKER]) for t in open_tickets if trial_id(t) < ticket]
        gone = self.registry.gone(worker for _, worker in before)
        for other, worker in before:
            if worker in gone:
                self._close(other)
        return any(worker not in gone for _, worker in before)

    def _close(self, ticket: int) -> None:
        try:
            self.storage.set_trial_state_values(ticket, TrialState.FAIL)
        except UpdateFinishedTrialError:
            return  # closed by one that took its holder for gone
