"""A worker of a shared study, the one in ``olivine run`` and those of ``olivine worker`` alike.

Until the search has ended, a worker goes on with a trial that waits for one of its roles, or else waits for its turn,
chooses the next candidate (first those of workers that were lost) and claims it in one write. A part that it can't do
itself, such as timing on other hardware than the study's, it leaves to others. The worker that leads, ``olivine run``,
measures the base before and ends the search: it alone looks at time and patience.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from olivine.passes.base import Scalar
from olivine.search.records import TrialRecord
from olivine.search.report.progress import Progress
from olivine.search.samplers.proposer import Proposal
from olivine.search.study.candidates import Candidates
from olivine.search.study.distributed.record_sync import RecordSync
from olivine.search.study.distributed.shared_study import (
    SharedStudy,
    choice_of,
    counted,
    keys,
    lost_choice,
    worker_of,
)
from olivine.search.study.distributed.ticket_lock import Ticket
from olivine.search.study.optuna_adapter import distributions_of, tell, trial_id
from olivine.search.workloads.stage import ROLES, Role

IDLE_S = 0.25
#: Seconds between looks for trials of workers that are gone.
RESCUE_S = 5.0
#: Trials that may wait for another role before a worker that can't go on with them builds no further ones ahead.
MOST_WAITING = 4
_DROPPED = "trial {} was given to another worker while this one was silent; its result is dropped"


class Measures(Protocol):
    """The part of :class:`olivine.search.study.trials.objective.Objective` that a worker needs."""

    def measure(
        self, number: int, choice: Mapping[str, Scalar], roles: Sequence[Role], earlier: TrialRecord | None
    ) -> TrialRecord:
        """Do some parts of a trial."""
        ...


@dataclass(frozen=True)
class LeaderDuties:
    """The duties of the worker that leads.

    Attributes:
        budget: candidates of the study.
        ended: tells why the search is over; None while it is not.
    """

    budget: int
    ended: Callable[[], str | None]


@dataclass(frozen=True)
class Job:
    """The work that one worker was started for.

    Attributes:
        objectives: metrics that the study optimizes.
        arrived: called with the record of each trial that has ended: of every worker's for the one that leads.
        interrupted: tells whether a person wants this worker to stop.
        roles: the parts of a trial that it does.
        duties: of the worker that leads; None for all others.
    """

    objectives: Sequence[str]
    arrived: Callable[[TrialRecord], None]
    interrupted: Callable[[], bool]
    roles: Sequence[Role] = ROLES
    duties: LeaderDuties | None = None


class Worker:
    """One worker.

    Args:
        shared: the study.
        candidates: of the study.
        measures: builds and measures.
        sync: takes records to the others.
        progress: told of everything.
        job: of this worker.
        clock: seconds.
    """

    def __init__(
        self,
        shared: SharedStudy,
        candidates: Candidates,
        measures: Measures,
        sync: RecordSync,
        progress: Progress,
        job: Job,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared, self._candidates, self._measures, self._sync = shared, candidates, measures, sync
        self._progress, self._job, self._clock = progress, job, clock
        self._budget = job.duties.budget if job.duties is not None else 0
        self._exhausted = False
        self._closing: str | None = None
        self._rescued: float | None = None

    def work(self) -> str:
        """Work until the search has ended, or a person stops this worker; returns the reason."""
        while not self._job.interrupted():
            trials = self._look()
            if (reason := self._over(trials)) is not None:
                return reason
            if not self._continue_one() and not self._start_one(trials):
                time.sleep(IDLE_S)
        return "stopped"

    def _look(self) -> list[FrozenTrial]:
        """The trials as they are, once those of lost workers are given up."""
        if self._job.duties is not None:
            for record in self._sync.new_records():
                self._job.arrived(record)
        if self._rescued is None or self._clock() - self._rescued >= min(RESCUE_S, self._shared.registry.lease_s):
            self._rescued = self._clock()
            for lost in self._shared.lose_the_dead(self._told_from_record):
                self._progress.note(f"worker {worker_of(lost)} is gone; its trial {lost.number} is given to another")
        return self._shared.trials()

    def _told_from_record(self, trial: FrozenTrial) -> bool:
        """Tell the trial of a worker that is gone from its record, if one was written before; True where there was."""
        record = self._sync.record(trial.number)
        if record is not None:
            tell(self._shared.study, trial_id(trial), record, self._job.objectives, compact=True)
        return record is not None

    def _over(self, trials: Sequence[FrozenTrial]) -> str | None:
        """Why there is nothing left to do; None while there is."""
        running = any(t.state == TrialState.RUNNING for t in trials)
        if self._job.duties is None:
            return self._over_for_follower(trials, running)
        if self._closing is None and (reason := self._job.duties.ended()) is not None:
            self._closing, self._budget = reason, 0
            self._shared.publish(self._shared.facts() | {"budget": 0})  # nobody starts another one
        if running:
            return None
        if self._closing is None and self._spent(trials):
            return f"{self._budget} trials"
        exhausted = self._exhausted and lost_choice(trials) is None
        return self._closing or (self._candidates.exhausted if exhausted else None)

    def _over_for_follower(self, trials: Sequence[FrozenTrial], running: bool) -> str | None:
        facts = self._shared.facts()
        self._budget = int(facts["budget"])
        if facts["ended"]:
            return str(facts["ended"])
        led = any(about.get("leads") for about in self._shared.registry.alive().values())
        if self._spent(trials) and not running and not led:
            return "all trials are done, and no 'olivine run' is there to finish the study"
        return None

    def _spent(self, trials: Sequence[FrozenTrial]) -> bool:
        return len(counted(trials)) >= self._budget

    def _continue_one(self) -> bool:
        """Go on with a trial that waits for a role of this worker, the furthest one first."""
        waiting = sorted(self._shared.waiting(), key=lambda part: -ROLES.index(part.role))
        for part in waiting:
            if part.role in self._job.roles and self._shared.take(part):
                trial = self._shared.storage.get_trial(part.trial_id)
                self._measure(trial, part.role, self._sync.handed_over(trial.number))
                self._shared.finish(part)
                return True
        return False

    def _start_one(self, trials: Sequence[FrozenTrial]) -> bool:
        """Choose, claim and measure the next candidate; False where there is none to choose now."""
        if "build" not in self._job.roles or self._spent(trials):
            return False
        if self._exhausted and lost_choice(trials) is None:
            return False
        if tuple(self._job.roles) != ROLES and len(self._shared.waiting()) >= MOST_WAITING:
            return False
        with self._shared.ticket_lock.turn() as ticket:
            trial = self._claim(ticket)
        if trial is None:
            return False
        self._measure(trial, ROLES[0], None)
        return True

    def _claim(self, ticket: Ticket) -> FrozenTrial | None:
        trials = self._shared.trials()
        if self._spent(trials):
            return None
        proposal = self._next(trials)
        if proposal is None:
            self._exhausted = True
            return None
        distributions = distributions_of(self._candidates.space, proposal.params)
        return self._shared.claim(ticket, proposal, self._candidates.key(proposal.choice), distributions)

    def _next(self, trials: Sequence[FrozenTrial]) -> Proposal | None:
        """A lost candidate, one of ``enqueue:``, or one that the sampler draws."""
        if (lost := lost_choice(trials)) is not None:
            return self._candidates.proposal(lost)
        position = sum(trial.state != TrialState.FAIL for trial in trials)
        return self._candidates.next(self._shared.study, position, keys(trials))

    def _measure(self, trial: FrozenTrial, first: Role, earlier: TrialRecord | None) -> None:
        """Do the parts of a trial from ``first`` on, as far as this worker does them; end it, or hand it over."""
        todo = ROLES[ROLES.index(first) :]
        roles = tuple(itertools.takewhile(lambda role: role in self._job.roles, todo))
        missing = todo[len(roles) :]
        choice = choice_of(trial)
        self._progress.trial_started(trial.number, trial.params or choice)
        record = self._measures.measure(trial.number, self._candidates.resolved(choice), roles, earlier)
        before = earlier.workers if earlier is not None else {}
        record = replace(record, workers={**before, **dict.fromkeys(roles, self._shared.registry.name)})
        if not self._shared.is_mine(trial_id(trial)):
            self._progress.note(_DROPPED.format(trial.number))
        elif missing and record.state == "complete":
            self._sync.hand_over(record)
            self._shared.hand_over(trial_id(trial), missing[0])
            self._progress.note(f"trial {trial.number} waits for a worker that does {' and '.join(missing)}")
        else:
            self._end(trial, replace(record, params=self._candidates.recorded(choice)))

    def _end(self, trial: FrozenTrial, record: TrialRecord) -> None:
        """Write the record, then tell Optuna; if the trial was given to another in between, neither counts."""
        self._sync.write(record)
        try:
            tell(self._shared.study, trial_id(trial), record, self._job.objectives, compact=True)
        except UpdateFinishedTrialError:
            if self._shared.storage.get_trial(trial_id(trial)).state == TrialState.FAIL:
                self._sync.take_back(record.number)
                self._progress.note(_DROPPED.format(record.number))
                return
        self._job.arrived(record)
