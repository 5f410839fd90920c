"""Open a study folder: for one process at a time, as the same study as before, with its storage and its records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import optuna

from olivine.evaluators.process import cgroup
from olivine.passes.errors import UsageError
from olivine.passes.store.atomic_files import make_folder, remove_stale, write_atomic
from olivine.passes.store.cache import Cache
from olivine.search.builds.builder import Builder
from olivine.search.builds.study_cache import open_cache
from olivine.search.config.load import AnyConfig, load_config
from olivine.search.environment import describe_environment
from olivine.search.pareto import front
from olivine.search.records import TrialRecord
from olivine.search.report.progress import Progress
from olivine.search.study.optuna_adapter import end_stale, restore, storage_of, tell, trial_id
from olivine.search.study.source_identity import measured_source, refuse_other_data
from olivine.search.study.storage import open_storage
from olivine.search.study.trials.baseline import Baseline
from olivine.search.study.trials.model_pool import ModelPool, ProcessOptions
from olivine.search.study.trials.pruning import PruningRules
from olivine.search.study.trials.tools import StudyTools
from olivine.search.study_dir import BASE, StudyDir
from olivine.search.workloads.registry import workload_of
from olivine.search.workloads.workload import AnyWorkload, Source


@dataclass(frozen=True)
class OpenStudy:
    """A study that this process has opened.

    Attributes:
        tools: build and measure its candidates.
        baseline: its base.
        folder: its folder.
        study: its trials, in Optuna's storage.
        source: its model.
        cache: where its builds are.
        records: of the trials that have ended, by number; those that end are appended.
    """

    tools: StudyTools
    baseline: Baseline
    folder: StudyDir
    study: optuna.Study
    source: Source
    cache: Cache
    records: list[TrialRecord]

    @property
    def config(self) -> AnyConfig:
        """Its config."""
        return self.tools.workload.config

    @property
    def progress(self) -> Progress:
        """Told of everything."""
        return self.tools.progress

    def front(self) -> list[TrialRecord]:
        """The front of the search so far, without the base."""
        return front([record for record in self.records if record.number > 0], self.config.objectives)

    def end(self, trial: optuna.Trial, record: TrialRecord) -> None:
        """Write the record of a trial, then tell Optuna: after a crash between the two it is told again."""
        self.folder.write_trial(record)
        tell(self.study, trial_id(trial), record, self.config.objectives)
        self.add(record)

    def add(self, record: TrialRecord) -> None:
        """Count a trial that has ended, here or elsewhere."""
        self.records.append(record)
        self.progress.trial_ended(record, self.front())


@contextmanager
def open_study(workload: AnyWorkload, folder: StudyDir, progress: Progress) -> Iterator[OpenStudy]:
    """Create the study in ``folder``, or resume the one that is there.

    Raises:
        UsageError: when the folder holds a study of another model, space or set of objectives, or of a model that
            has changed since, or has lost the record of its base, or another process is running it.
        SourceError: when the model can't be found or exported.
    """
    with locked_folder(workload, folder, progress) as source:
        study, records = reopen(workload.config, folder)
        with equipped(workload, source, progress, folder.root / "requests") as (tools, baseline, cache):
            yield OpenStudy(tools, baseline, folder, study, source, cache, records)


@contextmanager
def locked_folder(workload: AnyWorkload, folder: StudyDir, progress: Progress) -> Iterator[Source]:
    """Hold the study folder for this process alone, and write into it what stands there before any trial.

    Yields:
        The model: the one that was measured, where there are records.
    """
    make_folder(folder.root)
    with folder.locked():
        folder.check_format()
        _check_same_study(workload, folder)
        progress.phase_started("source")
        source = measured_source(workload, folder) if valid_records(folder) else workload.source()
        digests = workload.check_data()
        if valid_records(folder):
            refuse_other_data(folder, digests)
        folder.write_format()
        write_atomic(folder.config_path, workload.config.to_yaml())
        environment = describe_environment() | {"model": source.about(), "data": digests}
        write_atomic(folder.environment_path, json.dumps(environment, indent=1))
        remove_stale(folder.root)
        cgroup.sweep()
        yield source


@contextmanager
def equipped(
    workload: AnyWorkload, source: Source, progress: Progress, requests: Path
) -> Iterator[tuple[StudyTools, Baseline, Cache]]:
    """Make what builds and measures; its processes end with the block."""
    config = workload.config
    cache = open_cache(config.cache, workload.cache_limit(source))
    cache.sweep()
    children, constraints = config.children, config.parsed_constraints()
    options = ProcessOptions(workload.loop, children.timeout, children.memory, config.pythons())
    rules = PruningRules(constraints, config.objectives, workload.audit)
    with (
        Builder(partial(workload.request, source), cache, requests, children.timeout, children.memory) as builder,
        ModelPool(options) as models,
    ):
        recipe = workload.catalog.compose(workload.base_choice())
        with Baseline(builder, models, recipe) as baseline:
            yield StudyTools(workload, builder, models, rules, progress), baseline, cache


def valid_records(folder: StudyDir) -> list[TrialRecord]:
    """The records of a folder; none where its base did not run, which is tried again then.

    Raises:
        UsageError: when that of the base is missing: another run of the base has other times than the one that the
            others were compared with.
    """
    records = folder.trials()
    if records and records[0].number > 0:
        raise UsageError(
            f"{folder.root} has no record of its base ({BASE}), which its {len(records)} other records were compared "
            "with. Put the file back, or begin the study anew in another folder; 'olivine export --trial' takes what "
            "was measured from this one still."
        )
    return [] if records and records[-1].number == 0 and records[0].state != "complete" else records


def reopen(config: AnyConfig, folder: StudyDir) -> tuple[optuna.Study, list[TrialRecord]]:
    """The Optuna study and the records, in agreement: what was ended is told, what was interrupted is failed."""
    records = valid_records(folder)
    study = open_storage(folder, config.objectives)
    if not records and study.trials and not any(trial.values for trial in study.trials):
        # Stopped within the base: nothing was measured, and trial 0 has to be the base.
        optuna.delete_study(study_name=study.study_name, storage=storage_of(study))
        folder.base_times_path.unlink(missing_ok=True)
        study = open_storage(folder, config.objectives)
    restore(study, records, config.search_space())
    end_stale(study, records, config.objectives)
    return study, records


def _check_same_study(workload: AnyWorkload, folder: StudyDir) -> None:
    """Refuse to mix two studies in one folder; budgets, selection and lm-eval's tasks may change between runs."""
    if not folder.config_path.is_file() or not folder.trials():
        return
    old, new = workload_of(load_config(folder.config_path), folder).identity(), workload.identity()
    changed = [name for name in new if old.get(name) != new[name]]
    if changed:
        raise UsageError(
            f"{folder.root} holds a study with another {', '.join(changed)}. Resume it with its own config, or give "
            "this one a folder of its own with --out."
        )
