"""Opening a study folder: one process at a time, the same study as before, its storage and its records."""

from __future__ import annotations

import fcntl
import json
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.storages import BaseStorage

from olivine.evaluators.latency.baseline_times import BaselineTimes
from olivine.evaluators.metric import METRICS
from olivine.evaluators.process import cgroup
from olivine.evaluators.providers.interpreters import loop_of
from olivine.passes.errors import UsageError
from olivine.passes.sources.source import Source, resolve
from olivine.passes.store.atomic_files import make_folder, remove_stale, write_atomic
from olivine.search.builds.builder import Builder
from olivine.search.builds.cache import cache_of
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.load import language_config, load_config
from olivine.search.environment import describe_environment
from olivine.search.records import TrialRecord
from olivine.search.report.progress import Progress
from olivine.search.study.distributed.open_shared import create_shared, refuse_second_leader, restart_if_empty
from olivine.search.study.distributed.shared_study import SharedStudy
from olivine.search.study.objective import STAGES, Objective
from olivine.search.study.optuna_adapter import end_stale, name_metrics, restore, storage_of
from olivine.search.study.pruning import PruningRules
from olivine.search.study.runner import StudyRunner
from olivine.search.study.source_identity import measured_source
from olivine.search.study.storage import LOCK_WAIT_S
from olivine.search.study_dir import BASE, StudyDir
from olivine.search.workloads.language import make_evaluators

STUDY_NAME = "olivine"


@contextmanager
def open_search(config: LanguageStudyConfig, folder: StudyDir, progress: Progress) -> Iterator[StudyRunner]:
    """Create the study in ``folder``, or resume the one that is there.

    Raises:
        UsageError: when the folder holds a study of another model, space or set of objectives, or of a model that
            has changed since, or has lost the record of its base, or another process is running it.
        SourceError: when the model can't be found or exported.
    """
    with _folder_of(config, folder, progress) as source:
        study, records = _reopen(config, folder)
        pool = BaselineTimes(folder.base_times_path, first=1)
        with ready(config, folder, study, source, progress, records, pool, folder.root / "requests") as search:
            yield search


@contextmanager
def lead_search(
    config: LanguageStudyConfig, folder: StudyDir, storage: BaseStorage, progress: Progress
) -> Iterator[tuple[StudyRunner, SharedStudy]]:
    """Create the shared study of a folder's name in a storage, or resume it, as the one that leads it.

    Raises:
        UsageError: as :func:`open_search`; also when another process leads it, or its records are elsewhere.
        SourceError: when the model can't be found or exported.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with _folder_of(config, folder, progress) as source:
        shared = create_shared(storage, folder.root.resolve().name, config.objectives, {"leads": True})
        refuse_second_leader(shared)
        records = kept_records(folder)
        if not records:
            shared = restart_if_empty(shared, config.objectives, folder)
        pool = BaselineTimes(folder.base_times_path, first=1)
        requests = folder.root / "requests"
        with shared.roster, ready(config, folder, shared.study, source, progress, records, pool, requests) as search:
            yield search, shared


@contextmanager
def _folder_of(config: LanguageStudyConfig, folder: StudyDir, progress: Progress) -> Iterator[Source]:
    """The study folder, for this process alone, with what stands in it before any trial."""
    make_folder(folder.root)
    with exclusive(folder.root):
        folder.check_format()
        _check_same_study(config, folder)
        progress.phase_started("source")
        source = _source_of(config, folder)
        folder.write_format()
        write_atomic(folder.config_path, config.to_yaml())
        write_atomic(folder.environment_path, json.dumps(describe_environment(source), indent=1))
        remove_stale(folder.root)
        cgroup.sweep()
        yield source


def _source_of(config: LanguageStudyConfig, folder: StudyDir) -> Source:
    """The model: the one that was measured, where there are records; what is there now, where there are none."""
    if kept_records(folder):
        return measured_source(config, folder)
    return resolve(config.model, revision=config.revision, trust_remote_code=config.trust_remote_code)


@contextmanager
def ready(
    config: LanguageStudyConfig,
    folder: StudyDir,
    study: optuna.Study,
    source: Source,
    progress: Progress,
    records: list[TrialRecord],
    pool: BaselineTimes,
    requests: Path,
    stages: Sequence[str] = STAGES,
) -> Iterator[StudyRunner]:
    """A search with its builder and its objective, whose processes end with the block."""
    cache = cache_of(config.cache, source)
    cache.sweep()
    options = {
        "timeout_s": config.children.timeout,
        "memory_limit_bytes": config.children.memory,
        "loop": loop_of(config.asked_providers()),
    }
    with Builder(source, cache, requests, config.children.timeout, config.children.memory) as builder:
        objective = Objective(
            builder,
            lambda base: make_evaluators(config, base, folder, "select", pool),
            config.parsed_constraints(),
            progress,
            options,
            stages,
            config.pythons(),
            PruningRules(config.parsed_constraints(), config.objectives, config.evaluation.audit or 0.0),
        )
        try:
            yield StudyRunner(config, folder, study, objective, progress, records, pool, cache)
        finally:
            objective.close()


def kept_records(folder: StudyDir) -> list[TrialRecord]:
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


def _reopen(config: LanguageStudyConfig, folder: StudyDir) -> tuple[optuna.Study, list[TrialRecord]]:
    """The Optuna study and the records, in agreement: what was ended is told, what was interrupted is reaped."""
    records = kept_records(folder)
    study = open_storage(folder, config.objectives)
    if not records and study.trials and not any(trial.values for trial in study.trials):
        # Stopped within the base: nothing was measured, and trial 0 has to be the base.
        optuna.delete_study(study_name=study.study_name, storage=storage_of(study))
        folder.base_times_path.unlink(missing_ok=True)
        study = open_storage(folder, config.objectives)
    if records:
        restore(study, records, config.search_space())
    end_stale(study, records, config.objectives)
    return study, records


def open_storage(folder: StudyDir, objectives: Sequence[str]) -> optuna.Study:
    """The Optuna study in the study folder, in SQLite."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        study_name=STUDY_NAME,
        storage=_sqlite(folder),
        directions=[METRICS[name].direction for name in objectives],
        load_if_exists=True,
    )
    return name_metrics(study, objectives)


def _sqlite(folder: StudyDir) -> optuna.storages.RDBStorage:
    """The database in the study folder; who finds it locked waits."""
    wait = {"connect_args": {"timeout": LOCK_WAIT_S}}
    return optuna.storages.RDBStorage(folder.database_url, engine_kwargs=wait)


def _check_same_study(config: LanguageStudyConfig, folder: StudyDir) -> None:
    """Refuse to mix two studies in one folder; budgets, selection and lm-eval's tasks may change between runs."""
    if not folder.config_path.is_file():
        return
    old = language_config(load_config(folder.config_path))
    fixed = ("model", "revision", "space", "objectives", "constraints", "evaluation", "calibration", "seed")
    old, new = _but_tasks(old), _but_tasks(config)
    changed = [name for name in fixed if getattr(old, name) != getattr(new, name)]
    if changed and folder.trials():
        raise UsageError(
            f"{folder.root} holds a study with another {', '.join(changed)}. Resume it with its own config, or give "
            "this one a folder of its own with --out."
        )


def _but_tasks(config: LanguageStudyConfig) -> LanguageStudyConfig:
    """The config without what is measured after the search alone."""
    return config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"lm_eval": None})})


@contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Hold the folder's lock, which ends with this process however it ends."""
    with (root / ".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            who = lock.read().strip() or "another process"
            raise UsageError(f"{root} is being run by {who}; wait for it, or give --out another folder") from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {platform.node()}")
        lock.flush()
        yield
