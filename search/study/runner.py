"""A study from its YAML to its front: create or resume, baseline, propose, measure, tell, stop."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import optuna
from optuna.trial import TrialState

from olivine.evaluators.latency.baseline_times import BaselineTimes
from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import BuildFailed, PassRefused
from olivine.passes.graph import linears, load_graph
from olivine.passes.store.cache import Cache
from olivine.search.builds.calibration_text import Calibration, CalibrationText, may_calibrate
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.pareto import front, last_growth
from olivine.search.records import TrialRecord
from olivine.search.report.formatting import duration_text
from olivine.search.report.progress import Progress
from olivine.search.samplers.factory import AnyProposer, guide, make_cost_model, make_proposer, sampler_name
from olivine.search.samplers.kernel_masks import NO_MASKS, KernelMasks
from olivine.search.samplers.proposer import Proposal
from olivine.search.samplers.slow_kernels import choose_masks
from olivine.search.selection.contenders import choose_contenders
from olivine.search.study.baseline import base_choice
from olivine.search.study.interrupt import Interrupted, finish_trial_on_interrupt
from olivine.search.study.objective import Objective
from olivine.search.study.optuna_adapter import ask, tell, trial_id
from olivine.search.study.stopping import seconds_needed, seconds_spent
from olivine.search.study_dir import StudyDir


@dataclass
class StudyRunner:
    """One running study: its config, folder, storage and the objective that measures."""

    config: LanguageStudyConfig
    folder: StudyDir
    study: optuna.Study
    objective: Objective
    progress: Progress
    records: list[TrialRecord]
    base_times: BaselineTimes
    cache: Cache
    calibration: Calibration | None = None
    masks: KernelMasks = NO_MASKS
    #: What was proposed during a trial for the one after it.
    _following: Proposal | None = None
    #: When this process began, less what trials of earlier ones took: what ``stop.total`` counts from.
    _began: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = time.monotonic() - seconds_spent(self.records)

    def run(self) -> None:
        """Measure the base, then candidates until a stop rule says enough.

        Raises:
            BuildFailed: when the base itself can't be built or measured: nothing can be compared then.
            Interrupted: after Ctrl-C; the running trial is finished first.
        """
        self.announce()
        started = time.monotonic()
        with finish_trial_on_interrupt(self.progress.note) as interrupted:
            self.baseline()
            proposer = self._proposer()
            while (reason := self.enough(started)) is None:
                if interrupted():
                    raise Interrupted
                proposal, self._following = self._following or self._propose(proposer), None
                if proposal is None:
                    kind = "candidate that is not masked" if self.masks.slow_kernels else "candidate of the space"
                    reason = f"every {kind} is measured"
                    break
                self._trial(proposal, proposer)
            self.objective.abandon_build()
            if interrupted():
                raise Interrupted
        self.progress.note(f"search ended: {reason}")

    def announce(self) -> None:
        """Say what is about to run."""
        config = self.config
        trials = max(0, config.stop.trials - self._done())
        limits = [limit for limit in (config.stop.timeout, config.stop.total) if limit is not None]
        self.progress.study_started(config.name, config.model, trials, min(limits, default=None), config.objectives)

    def front(self) -> list[TrialRecord]:
        """The front of the search so far, without the base."""
        return front([r for r in self.records if r.number > 0], self.config.objectives)

    def _done(self) -> int:
        return sum(record.number > 0 for record in self.records)

    def _position(self) -> int:
        """Where the study is in its sequence of proposals: trials that were interrupted don't count."""
        return sum(trial.state != TrialState.FAIL for trial in self.study.get_trials(deepcopy=False))

    def _measured(self) -> set[str]:
        return {record.recipe_key for record in self.records}

    def enough(self, started: float) -> str | None:
        """The stop rule that says enough, in words; None while none does."""
        stop = self.config.stop
        if self._done() >= stop.trials:
            return f"{stop.trials} trials"
        if stop.timeout is not None and time.monotonic() - started >= stop.timeout:
            return f"{stop.timeout:g} s have passed"
        if stop.patience is not None and self._done() - self._last_growth() >= stop.patience:
            return f"the front has not grown for {stop.patience} trials"
        if stop.total is not None and self._done():
            needed = seconds_needed(self.config, self.records, len(choose_contenders(self.records, self.config)))
            if time.monotonic() - self._began + needed > stop.total:
                return f"what is left of {duration_text(stop.total)} goes to confirmation and export"
        return None

    def _last_growth(self) -> int:
        """How many candidates had ended when the hypervolume of the front last grew."""
        return last_growth([r for r in self.records if r.number > 0], self.config.objectives)

    def baseline(self) -> None:
        """Measure the base, or load it where it was measured already.

        Raises:
            BuildFailed: when it can't be built or measured.
        """
        choice = base_choice(self.config)
        if self.records:
            self.progress.phase_started("base")
            self.objective.load_base(choice)
            self.calibrate()
            self.mask()
            return
        trial = self.study.ask()
        self.progress.trial_started(trial.number, {"base": choice["precision"]})
        record = self.objective.measure(0, choice)
        self._end(trial, record)
        if record.state != "complete":
            raise BuildFailed(f"the float base can't be measured, so nothing can be compared with it: {record.reason}")
        self.calibrate()
        self.mask()

    def calibrate(self) -> None:
        """Keep the text that candidates may learn from, where the space has such candidates."""
        if may_calibrate(self.config) or self.config.sampler.name == "forecast":
            self.progress.phase_started("calibration text")
            self.calibration = CalibrationText.of_study(self.config).store(self.objective.base_artifact(), self.cache)
            self.objective.calibrate(self.calibration.key)

    def mask(self) -> None:
        """Find out what is not proposed on this machine; a resumed study goes by what it found first."""
        config, kept = self.config, self.folder.kernels_path
        if not config.kernel_probe:
            return
        if not kept.is_file():
            self.progress.phase_started("kernel probe")
            graph = load_graph(self.objective.base_artifact().onnx_path())
            shapes = [layer.shape for layer in linears(graph)]
            choose_masks(config, shapes, self.cache.root).write(kept)
        self.masks = KernelMasks.read(kept)
        for line in self.masks.lines:
            self.progress.note(f"not proposed: {line}" if self.masks.slow_kernels else line)

    def _proposer(self) -> AnyProposer:
        """The proposer of a study whose base is measured."""
        name = sampler_name(self.config, self.masks)
        proposer = make_proposer(self.config, name, self.masks, one_behind=True)
        if name != "forecast":
            return proposer
        self.progress.phase_started("cost model")
        try:
            cost_model = make_cost_model(self.config, self.records[0], self.objective.forecast, self.masks)
        except PassRefused as refusal:
            self.progress.note(f"no cost model, so TPE alone proposes candidates: {refusal}")
            return proposer
        return guide(proposer, cost_model, self.config, self.records)

    def _propose(self, proposer: AnyProposer, running: str | None = None) -> Proposal | None:
        """The next candidate; ``running`` is the recipe key of the trial that has not ended yet."""
        taken = self._measured() | ({running} if running else set())
        return self._enqueued(taken) or proposer.propose(self.study, self._position(), taken)

    def _enqueued(self, measured: set[str]) -> Proposal | None:
        """The next choice of ``enqueue:`` that is not measured yet."""
        space = self.config.search_space()
        for given in self.config.enqueue:
            choice = LANGUAGE.canonical({**space.usual(), **given})
            if LANGUAGE.compose(choice).key in measured:
                continue
            # A choice outside the space is measured, but tells the sampler nothing.
            searched = space.searched if space.contains(choice) else ()
            return Proposal(choice, {name: choice[name] for name in searched if name in choice}, {})
        return None

    def _trial(self, proposal: Proposal, proposer: AnyProposer) -> None:
        trial = self._ask(proposal)
        self.progress.trial_started(trial.number, proposal.params or proposal.choice)

        def ahead() -> Mapping[str, Scalar] | None:
            if self._done() + 1 >= self.config.stop.trials:
                return None
            self._following = self._propose(proposer, LANGUAGE.compose(proposal.choice).key)
            return self._following.choice if self._following else None

        self._end(trial, self.objective.measure(trial.number, proposal.choice, ahead=ahead))

    def shown(self, choice: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """The values worth showing: of searched axes, and those that differ from an axis's default."""
        searched = self.config.search_space().searched
        return {
            n: value for n, value in choice.items() if n in searched or value != LANGUAGE.axes[n].default_for(choice)
        }

    def _ask(self, proposal: Proposal) -> optuna.Trial:
        return ask(self.study, self.config.search_space(), proposal.params, proposal.sampler_attrs)

    def _end(self, trial: optuna.Trial, record: TrialRecord) -> None:
        """Write the record, then tell Optuna: after a crash between the two the record is told again."""
        record = replace(record, params=self.shown(record.params))
        self.folder.write_trial(record)
        tell(self.study, trial_id(trial), record, self.config.objectives)
        self.records.append(record)
        self.progress.trial_ended(record, self.front())
