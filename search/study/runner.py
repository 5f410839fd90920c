"""The search of a study: measure the base, then propose, measure, record and tell until a stop rule says enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from optuna.trial import TrialState

from olivine.passes.base import Scalar
from olivine.search.samplers.proposer import Proposal
from olivine.search.study.begin import begin
from olivine.search.study.candidates import Candidates, make_candidates
from olivine.search.study.interrupt import Interrupted, finish_trial_on_interrupt
from olivine.search.study.open import OpenStudy
from olivine.search.study.optuna_adapter import ask
from olivine.search.study.stopping import StopRules
from olivine.search.study.trials.objective import Objective


def run_search(opened: OpenStudy) -> Objective:
    """Search in this process alone.

    Returns:
        The objective, whose base and builds confirmation uses.

    Raises:
        BuildFailed: when the base itself can't be built or measured: nothing can be compared then.
        Interrupted: after Ctrl-C; the running trial is finished first.
    """
    rules = StopRules.of(opened.config, opened.records)
    announce(opened)
    with finish_trial_on_interrupt(opened.progress.note) as interrupted:
        start = begin(opened)
        losses = start.objective.expected_losses
        candidates = make_candidates(opened.tools.workload, start.masks, opened.records, losses, opened.progress)
        reason = StudyRunner(opened, start.objective, candidates, rules).run(interrupted)
    opened.progress.note(f"search ended: {reason}")
    return start.objective


def announce(opened: OpenStudy) -> None:
    """Say what is about to run."""
    config = opened.config
    trials = max(0, config.stop.trials - sum(record.number > 0 for record in opened.records))
    limits = [limit for limit in (config.stop.timeout, config.stop.total) if limit is not None]
    opened.progress.study_started(config.name, config.model, trials, min(limits, default=None), config.objectives)


class StudyRunner:
    """Proposes and measures the candidates of a study, whose base is measured."""

    def __init__(self, opened: OpenStudy, objective: Objective, candidates: Candidates, rules: StopRules) -> None:
        self._opened, self._objective, self._candidates, self._rules = opened, objective, candidates, rules
        #: Proposed during a trial for the one after it.
        self._following: Proposal | None = None

    def run(self, interrupted: Callable[[], bool]) -> str:
        """Measure candidates until a stop rule says enough; returns the rule, in words.

        Raises:
            Interrupted: when ``interrupted`` says so; the running trial is finished first.
        """
        while (reason := self._rules.reason(self._opened.records)) is None:
            if interrupted():
                raise Interrupted
            proposal, self._following = self._following or self._propose(), None
            if proposal is None:
                reason = self._candidates.exhausted
                break
            self._trial(proposal)
        self._objective.cancel_build()
        if interrupted():
            raise Interrupted
        return reason

    def _propose(self) -> Proposal | None:
        return self._candidates.next(self._opened.study, self._position(), self._measured())

    def _measured(self) -> set[str]:
        return {record.recipe_key for record in self._opened.records}

    def _position(self) -> int:
        """The place in the sequence. Interrupted trials don't count: the sequence is that of an uninterrupted study."""
        return sum(trial.state != TrialState.FAIL for trial in self._opened.study.get_trials(deepcopy=False))

    def _trial(self, proposal: Proposal) -> None:
        opened, candidates = self._opened, self._candidates
        trial = ask(opened.study, candidates.space, proposal.params, proposal.sampler_attrs)
        opened.progress.trial_started(trial.number, proposal.params or proposal.choice)

        def ahead() -> Mapping[str, Scalar] | None:
            ended = sum(record.number > 0 for record in opened.records)
            if ended + 1 >= opened.config.stop.trials:
                return None
            measured = self._measured() | {candidates.key(proposal.choice)}
            self._following = candidates.ahead(opened.study, self._position(), measured)
            return self._following.choice if self._following else None

        record = self._objective.measure(trial.number, proposal.choice, ahead=ahead)
        opened.end(trial, replace(record, params=candidates.recorded(proposal.choice)))
