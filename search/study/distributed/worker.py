"""A worker of a shared study, the one in ``olivine run`` and those of ``olivine worker`` alike.

Until the search has ended, a worker goes on with a trial that waits for one of its roles, or else takes a turn, chooses
the next candidate (first those of workers that were lost) and claims it in one write. What it can't do itself, such as
timing on other hardware than the study's, it hands over. The worker that leads, ``olivine run``, measures the base
before and ends the search: it alone looks at time and patience.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.search.config.space import Space
from olivine.search.records import TrialRecord
from olivine.search.report.progress import Progress
from olivine.search.samplers.proposer import Proposal, Proposer
from olivine.search.study.distributed.machine_defaults import pinned
from olivine.search.study.distributed.record_sync import RecordSync
from olivine.search.study.distributed.shared_study import (
    Handover,
    SharedStudy,
    choice_of,
    counted,
    keys,
    lost_choice,
    worker_of,
)
from olivine.search.study.distributed.ticket_lock import Ticket
from olivine.search.study.objective import STAGES
from olivine.search.study.optuna_adapter import distributions_of, tell

IDLE_S = 0.25
#: How often the trials of workers that are gone are looked for.
RESCUE_S = 5.0
#: Trials that may wait for another role before a worker that can't go on with them builds no further ones ahead.
AHEAD = 4
_DROPPED = "trial {} was given to another worker while this one was silent; its result is dropped"


class Measures(Protocol):
    """The part of :class:`olivine.search.study.objective.Objective` that a worker needs."""

    def measure(
        self, number: int, choice: Mapping[str, Scalar], stages: Sequence[str], earlier: TrialRecord | None
    ) -> TrialRecord:
        """Do some stages of a trial."""
        ...


@dataclass
class Worker:
    """One worker.

    Attributes:
        shared: the study.
        space: its search space.
        proposer: chooses candidates.
        enqueued: choices that come first.
        objectives: what the study optimizes.
        objective: builds and measures.
        exchange: where records go.
        progress: told of everything.
        stages: the parts of a trial that this worker does.
        pins: what the axes that depend on the machine stand for in this study.
        budget: candidates of the study.
        ended: asked by the worker that leads whether the search is over, and why; None for all others.
        interrupted: whether a person wants this worker to stop.
        shown: the values of a choice that a record keeps.
        arrived: called with each record of another worker, for the one that leads.
    """

    shared: SharedStudy
    space: Space
    proposer: Proposer
    enqueued: Sequence[Mapping[str, Any]]
    objectives: Sequence[str]
    objective: Measures
    exchange: RecordSync
    progress: Progress
    stages: tuple[str, ...] = STAGES
    pins: Mapping[str, Scalar] = field(default_factory=dict)
    budget: int = 0
    ended: Callable[[], str | None] | None = None
    interrupted: Callable[[], bool] = lambda: False
    shown: Callable[[Mapping[str, Scalar]], dict[str, Scalar]] = dict
    arrived: Callable[[TrialRecord], None] = lambda record: None
    clock: Callable[[], float] = time.monotonic
    _exhausted: bool = False
    _closing: str | None = None
    _rescued: float | None = None

    def work(self) -> str:
        """Work until the search has ended, or a person stops this worker; returns the reason."""
        while not self.interrupted():
            trials = self._look()
            if (reason := self._over(trials)) is not None:
                return reason
            if not self._continue_one() and not self._start_one(trials):
                time.sleep(IDLE_S)
        return "stopped"

    def _look(self) -> list[FrozenTrial]:
        """The trials as they are, once those of lost workers are given up."""
        if self.ended is not None:
            for record in self.exchange.new_records():
                self.arrived(record)
        if self._rescued is None or self.clock() - self._rescued >= min(RESCUE_S, self.shared.roster.lease_s):
            self._rescued = self.clock()
            for lost in self.shared.lose_the_dead(self._told_from_record):
                self.progress.note(f"worker {worker_of(lost)} is gone; its trial {lost.number} is given to another")
        return self.shared.trials()

    def _told_from_record(self, trial: FrozenTrial) -> bool:
        """Tell the trial of a worker that is gone if its record was written before; whether there was one."""
        record = self.exchange.record(trial.number)
        if record is not None:
            tell(self.shared.study, trial._trial_id, record, self.objectives, compact=True)
        return record is not None

    def _over(self, trials: Sequence[FrozenTrial]) -> str | None:
        """Why there is nothing left to do; None while there is."""
        running = any(t.state == TrialState.RUNNING for t in trials)
        spent = len(counted(trials)) >= self.budget
        if self.ended is None:
            facts = self.shared.facts()
            self.budget = int(facts["budget"])
            if facts["ended"]:
                return str(facts["ended"])
            alone = spent and not running and not self._led()
            return "all trials are done, and no 'olivine run' is there to finish the study" if alone else None
        if self._closing is None and (reason := self.ended()) is not None:
            self._closing, self.budget = reason, 0
            self.shared.publish(self.shared.facts() | {"budget": 0})  # nobody starts another one
        if running:
            return None
        if self._closing is None and spent:
            return f"{self.budget} trials"
        exhausted = self._exhausted and lost_choice(trials) is None
        return self._closing or ("every candidate of the space is measured" if exhausted else None)

    def _led(self) -> bool:
        return any(about.get("leads") for about in self.shared.roster.alive().values())

    def _continue_one(self) -> bool:
        """Go on with a trial that waits for a role of this worker, the furthest one first."""
        waiting = sorted(self.shared.waiting(), key=lambda part: -STAGES.index(part.stage))
        for part in waiting:
            if part.stage in self.stages and self.shared.take(part):
                self._go_on(part)
                return True
        return False

    def _go_on(self, part: Handover) -> None:
        trial = self.shared.storage.get_trial(part.trial_id)
        earlier = self.exchange.handed_over(trial.number)
        self._measure(trial, part.stage, earlier)
        self.shared.finish(part)

    def _start_one(self, trials: Sequence[FrozenTrial]) -> bool:
        """Choose, claim and measure the next candidate; False where there is none to choose now."""
        if "build" not in self.stages or len(counted(trials)) >= self.budget:
            return False
        if self._exhausted and lost_choice(trials) is None:
            return False
        if self.stages != STAGES and len(self.shared.waiting()) >= AHEAD:
            return False
        with self.shared.turns.turn() as turn:
            trial = self._claim(turn)
        if trial is None:
            return False
        self._measure(trial, STAGES[0], None)
        return True

    def _claim(self, turn: Ticket) -> FrozenTrial | None:
        trials = self.shared.trials()
        if len(counted(trials)) >= self.budget:
            return None
        proposal = self._next(trials)
        if proposal is None:
            self._exhausted = True
            return None
        return self.shared.claim(
            turn,
            proposal.choice,
            LANGUAGE.compose(self._pinned(proposal.choice)).key,
            proposal.params,
            distributions_of(self.space, proposal.params),
            proposal.sampler_attrs,
        )

    def _next(self, trials: list[FrozenTrial]) -> Proposal | None:
        """A lost candidate, one of ``enqueue:``, or one that the sampler draws."""
        measured = keys(trials)
        if (lost := lost_choice(trials)) is not None:
            return self._given(lost)
        for given in self.enqueued:
            choice = LANGUAGE.canonical({**self.space.usual(), **given})
            if LANGUAGE.compose(self._pinned(choice)).key not in measured:
                return self._given(choice)
        position = sum(trial.state != TrialState.FAIL for trial in trials)
        return self.proposer.propose(self.shared.study, position, measured)

    def _given(self, choice: Mapping[str, Scalar]) -> Proposal:
        # A choice outside the space is measured, but tells the sampler nothing.
        searched = self.space.searched if self.space.contains(choice) else ()
        return Proposal(choice, {name: choice[name] for name in searched if name in choice}, {})

    def _pinned(self, choice: Mapping[str, Scalar]) -> dict[str, Scalar]:
        return pinned(choice, self.pins, {domain.axis.name for domain in self.space.domains})

    def _measure(self, trial: FrozenTrial, first: str, earlier: TrialRecord | None) -> None:
        """Do the stages of a trial from ``first`` on, as far as this worker does them; end it, or hand it over."""
        todo = STAGES[STAGES.index(first) :]
        stages = tuple(itertools.takewhile(lambda stage: stage in self.stages, todo))
        missing = todo[len(stages) :]
        choice = choice_of(trial)
        self.progress.trial_started(trial.number, trial.params or choice)
        record = self.objective.measure(trial.number, self._pinned(choice), stages, earlier)
        before = earlier.workers if earlier is not None else {}
        record = replace(record, workers={**before, **dict.fromkeys(stages, self.shared.roster.name)})
        if not self.shared.is_mine(trial._trial_id):
            self.progress.note(_DROPPED.format(trial.number))
        elif missing and record.state == "complete":
            self.exchange.hand_over(record)
            self.shared.hand_over(trial._trial_id, missing[0])
            self.progress.note(f"trial {trial.number} waits for a worker that does {' and '.join(missing)}")
        else:
            self._end(trial, replace(record, params=self.shown(choice)))

    def _end(self, trial: FrozenTrial, record: TrialRecord) -> None:
        """Write the record, then tell Optuna; if the trial was given to another in between, neither counts."""
        self.exchange.write(record)
        try:
            tell(self.shared.study, trial._trial_id, record, self.objectives, compact=True)
        except UpdateFinishedTrialError:
            if self.shared.storage.get_trial(trial._trial_id).state == TrialState.FAIL:
                self.exchange.take_back(record.number)
                self.progress.note(_DROPPED.format(record.number))
                return
        self.arrived(record)
