"""A study of a plain graph: create or resume, measure the base, propose, measure, tell, stop."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import optuna
from optuna.trial import TrialState

from olivine.passes.base import Scalar
from olivine.passes.catalog import GRAPH
from olivine.passes.errors import BuildFailed, UsageError
from olivine.passes.graphs.source import GraphSource, resolve_graph
from olivine.passes.store.atomic_files import make_folder, remove_stale, write_atomic
from olivine.passes.store.cache import DEFAULT_MAX_BYTES, Cache
from olivine.search.builds.cache import cache_folder
from olivine.search.config.graph import GraphStudyConfig
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.load import load_config
from olivine.search.environment import describe_environment
from olivine.search.pareto import front, last_growth
from olivine.search.records import TrialRecord
from olivine.search.report.progress import Progress
from olivine.search.samplers.factory import make_proposer, sampler_name
from olivine.search.samplers.proposer import Proposal, Proposer
from olivine.search.study.interrupt import Interrupted, finish_trial_on_interrupt
from olivine.search.study.open import exclusive, kept_records, open_storage
from olivine.search.study.optuna_adapter import ask, end_stale, storage_of, tell, trial_id
from olivine.search.study.source_identity import refuse_other_model
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.graph_builder import GraphBuilder
from olivine.search.workloads.graph_objective import GraphObjective
from olivine.search.workloads.graph_task import load_task

#: A config that differs in one of these is of another study.
FIXED = ("model", "architecture", "inputs", "space", "objectives", "constraints", "evaluation", "seed")


@dataclass
class GraphStudyRunner:
    """One running study: its config, folder, storage and the objective that measures."""

    config: GraphStudyConfig
    folder: StudyDir
    study: optuna.Study
    objective: GraphObjective
    source: GraphSource
    progress: Progress
    records: list[TrialRecord]
    _began: float = field(default_factory=time.monotonic)

    def run(self) -> None:
        """Measure the base, then candidates until a stop rule says enough.

        Raises:
            BuildFailed: when the base itself can't be built or measured.
            Interrupted: after Ctrl-C; the running trial is finished first.
        """
        config = self.config
        trials, limits = max(0, config.stop.trials - self._done()), [config.stop.timeout, config.stop.total]
        least = min((limit for limit in limits if limit is not None), default=None)
        self.progress.study_started(config.name, config.model, trials, least, config.objectives)
        with finish_trial_on_interrupt(self.progress.note) as interrupted:
            self._baseline()
            proposer = self._proposer()
            while (reason := self._enough()) is None:
                if interrupted():
                    raise Interrupted
                proposal = self._enqueued() or proposer.propose(self.study, self._position(), self._measured())
                if proposal is None:
                    reason = "every candidate of the space is measured"
                    break
                self._trial(proposal)
            if interrupted():
                raise Interrupted
        self.progress.note(f"search ended: {reason}")

    def front(self) -> list[TrialRecord]:
        """The front of the search so far, without the base."""
        return front(self.candidates(), self.config.objectives)

    def candidates(self) -> list[TrialRecord]:
        """All records but the base's."""
        return [record for record in self.records if record.number > 0]

    def _done(self) -> int:
        return len(self.candidates())

    def _position(self) -> int:
        return sum(trial.state != TrialState.FAIL for trial in self.study.get_trials(deepcopy=False))

    def _measured(self) -> set[str]:
        return {record.recipe_key for record in self.records}

    def _enough(self) -> str | None:
        """The stop rule that says enough, in words; None while none does."""
        stop, passed = self.config.stop, time.monotonic() - self._began
        if self._done() >= stop.trials:
            return f"{stop.trials} trials"
        if stop.timeout is not None and passed >= stop.timeout:
            return f"{stop.timeout:g} s have passed"
        if stop.patience is not None and self._done() - last_growth(self.candidates(), self.config.objectives) >= (
            stop.patience
        ):
            return f"the front has not grown for {stop.patience} trials"
        if stop.total is not None and passed + self._confirming_s() > stop.total:
            return "what is left of the time goes to confirmation and export"
        return None

    def _confirming_s(self) -> float:
        """About how long confirmation takes: a trial's time for each member, and the race."""
        spent = [record.build_seconds + record.evaluate_seconds for record in self.records]
        return self.config.confirm.members * sum(spent) / max(1, len(spent)) + (self.config.confirm.race or 0.0)

    def _proposer(self) -> Proposer:
        """The sampler of the config; ``auto`` enumerates a space that fits the budget, else TPE."""
        return make_proposer(self.config, sampler_name(self.config, uncounted=[base_key(self.config)]))

    def _baseline(self) -> None:
        choice = base_choice(self.config)
        if self.records:
            self.progress.phase_started("base")
            self.objective.open_base(choice)
            self.objective.base_ms = self.records[0].value("latency_ms")
            return
        trial = self.study.ask()
        self.progress.trial_started(trial.number, {"base": choice["precision"]})
        record = self.objective.measure(0, choice)
        self._end(trial, record)
        if record.state != "complete":
            raise BuildFailed(f"the base can't be measured, so nothing can be compared with it: {record.reason}")

    def _enqueued(self) -> Proposal | None:
        """The next choice of ``enqueue:`` that is not measured yet."""
        space = self.config.search_space()
        for given in self.config.enqueue:
            choice = GRAPH.canonical({**space.usual(), **given})
            if GRAPH.compose(choice).key in self._measured():
                continue
            searched = space.searched if space.contains(choice) else ()
            return Proposal(choice, {name: choice[name] for name in searched if name in choice}, {})
        return None

    def _trial(self, proposal: Proposal) -> None:
        trial = ask(self.study, self.config.search_space(), proposal.params, proposal.sampler_attrs)
        self.progress.trial_started(trial.number, proposal.params or proposal.choice)
        self._end(trial, self.objective.measure(trial.number, proposal.choice))

    def _end(self, trial: optuna.Trial, record: TrialRecord) -> None:
        """Write the record, then tell Optuna: after a crash between the two the record is told again."""
        searched = self.config.search_space().searched
        shown: dict[str, Scalar] = {
            name: value
            for name, value in record.params.items()
            if name in searched or value != GRAPH.axes[name].default_for(record.params)
        }
        record = replace(record, params=shown)
        self.folder.write_trial(record)
        tell(self.study, trial_id(trial), record, self.config.objectives)
        self.records.append(record)
        self.progress.trial_ended(record, self.front())


def base_choice(config: GraphStudyConfig) -> dict[str, Scalar]:
    """The graph as it came, with the threads that candidates get."""
    fixed = {d.axis.name: d.values[0] for d in config.search_space().domains if len(d.values) == 1}
    return GRAPH.canonical(
        {name: fixed[name] for name, axis in GRAPH.axes.items() if axis.base_inherits and name in fixed}
    )


def base_key(config: GraphStudyConfig) -> str:
    """Key of the base's recipe, which the search space may hold too."""
    return GRAPH.compose(base_choice(config)).key


def cache_for(config: GraphStudyConfig) -> Cache:
    """Where the builds of a study are kept."""
    return Cache(cache_folder(config.cache), config.cache.max_bytes or DEFAULT_MAX_BYTES)


@contextmanager
def open_plain(config: GraphStudyConfig, folder: StudyDir, progress: Progress) -> Iterator[GraphStudyRunner]:
    """Create the study in ``folder``, or resume the one that is there.

    Raises:
        UsageError: when the folder holds another study, or one of a model that has changed since, another process is
            running it, or its task has no such rows.
        SourceError: when the model can't be found.
    """
    make_folder(folder.root)
    with exclusive(folder.root):
        folder.check_format()
        _check_same_study(config, folder)
        progress.phase_started("source")
        task = load_task(config)
        source = resolve_graph(config.model, config.architecture)
        if kept_records(folder):
            refuse_other_model(folder, config.model, source.about())
        task = task.fitted(source.folder) if task else None
        folder.write_format()
        write_atomic(folder.config_path, config.to_yaml())
        environment = describe_environment() | {"model": source.about()}
        write_atomic(folder.environment_path, json.dumps(environment, indent=1))
        remove_stale(folder.root)
        records = kept_records(folder)
        study = _storage(config, folder, records)
        cache = cache_for(config)
        cache.sweep()
        requests, children = folder.root / "requests", config.children
        with GraphBuilder(source, cache, requests, children.timeout, children.memory, config.sizes()) as builder:
            objective = GraphObjective(config, builder, folder, progress, task)
            try:
                yield GraphStudyRunner(config, folder, study, objective, source, progress, records)
            finally:
                objective.close()


def _storage(config: GraphStudyConfig, folder: StudyDir, records: list[TrialRecord]) -> optuna.Study:
    """The Optuna study, in agreement with the records."""
    study = open_storage(folder, config.objectives)
    if not records and study.trials and not any(trial.values for trial in study.trials):
        # Stopped within the base: nothing was measured, and trial 0 has to be the base.
        optuna.delete_study(study_name=study.study_name, storage=storage_of(study))
        study = open_storage(folder, config.objectives)
    by_number = {record.number: record for record in records}
    space = config.search_space()
    for number in range(len(study.trials), records[-1].number + 1 if records else 0):
        params: Mapping[str, Scalar] = by_number[number].params if number in by_number else {}
        whole = GRAPH.canonical({**space.usual(), **params})
        ask(study, space, {n: whole[n] for n in space.searched if n in params} if space.contains(whole) else {})
    end_stale(study, records, config.objectives)
    return study


def _check_same_study(config: GraphStudyConfig, folder: StudyDir) -> None:
    """Refuse to mix two studies in one folder; budgets and selection may change between runs."""
    if not folder.config_path.is_file() or not folder.trials():
        return
    old: GraphStudyConfig | LanguageStudyConfig = load_config(folder.config_path)
    changed = [name for name in FIXED if getattr(old, name, None) != getattr(config, name)]
    if changed:
        raise UsageError(
            f"{folder.root} holds a study with another {', '.join(changed)}. Resume it with its own config, or give "
            "this one a folder of its own with --out."
        )
