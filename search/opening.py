"""Opening a study folder: one process at a time, the same study as before, its storage and its records."""

from __future__ import annotations

import fcntl
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.trial import TrialState

from olivine.evaluators.base_pool import BasePool
from olivine.passes.artifact import write_atomic
from olivine.passes.cache import Cache, cache_root
from olivine.passes.durable import make_folder, sweep_aside
from olivine.passes.errors import UsageError
from olivine.passes.recipe import canonical
from olivine.passes.source import resolve
from olivine.search.config import StudyConfig, load_config
from olivine.search.environment import describe_environment
from olivine.search.live import Watcher
from olivine.search.metrics import METRICS
from olivine.search.objective import Objective
from olivine.search.protocol import make_evaluators
from olivine.search.records import StudyDir, TrialRecord
from olivine.search.study import Search, ask, tell
from olivine.search.workers import Builder

STUDY_NAME = "olivine"


@contextmanager
def open_search(config: StudyConfig, folder: StudyDir, storage: str | None, watcher: Watcher) -> Iterator[Search]:
    """Create the study in ``folder``, or resume the one that is there.

    Raises:
        UsageError: when the folder holds a study of another model, space or set of objectives, or another process
            is running it.
        SourceError: when the model can't be found or exported.
    """
    make_folder(folder.root)
    with _exclusive(folder.root):
        folder.check_format()
        _check_same_study(config, folder)
        watcher.phase_started("source")
        source = resolve(config.model, revision=config.revision, trust_remote_code=config.trust_remote_code)
        folder.write_format()
        write_atomic(folder.config_path, config.to_yaml())
        write_atomic(folder.environment_path, json.dumps(describe_environment(source), indent=1))
        cache = Cache(Path(config.cache.folder) if config.cache.folder else cache_root(), config.cache.max_bytes)
        sweep_aside(folder.root)
        cache.sweep()
        study, records = _reopen(config, folder, storage)
        pool = BasePool(folder.base_times_path, pinned=1)
        builder = Builder(source, cache, folder.root / "requests", config.children.timeout, config.children.memory)
        options = {"timeout_s": config.children.timeout, "memory_limit_bytes": config.children.memory}
        constraints = config.parsed_constraints()
        with builder:
            objective = Objective(
                builder,
                lambda base: make_evaluators(config, base, folder, "select", pool),
                constraints,
                watcher,
                options,
            )
            try:
                yield Search(config, folder, study, objective, watcher, records, pool, cache)
            finally:
                objective.close()


def _reopen(config: StudyConfig, folder: StudyDir, storage: str | None) -> tuple[optuna.Study, list[TrialRecord]]:
    """The Optuna study and the records, in agreement: what was ended is told, what was interrupted is reaped."""
    records = folder.trials()
    if records and records[-1].number == 0 and records[0].state != "complete":
        records = []  # the base did not run: it is tried again
    study = open_storage(folder, storage, config.objectives)
    if not records and study.trials and not any(trial.values for trial in study.trials):
        # Stopped within the base: nothing was measured, and trial 0 has to be the base.
        optuna.delete_study(study_name=study.study_name, storage=study._storage)
        folder.base_times_path.unlink(missing_ok=True)
        study = open_storage(folder, storage, config.objectives)
    if records:
        restore(study, records, config)
    reap(study, records, config.objectives)
    return study, records


def open_storage(folder: StudyDir, storage: str | None, objectives: Sequence[str]) -> optuna.Study:
    """The Optuna study: SQLite in the study folder, or the storage URL that was given."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        study_name=STUDY_NAME if storage is None else folder.root.resolve().name,
        storage=storage or f"sqlite:///{folder.database_path.resolve()}",
        directions=[METRICS[name].direction for name in objectives],
        load_if_exists=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(objectives))
    return study


def restore(study: optuna.Study, records: Sequence[TrialRecord], config: StudyConfig) -> None:
    """Give a study whose database was lost the trials of its records; :func:`reap` tells how they ended."""
    by_number = {record.number: record for record in records}
    space = config.search_space()
    for number in range(len(study.trials), records[-1].number + 1):
        record = by_number.get(number)
        params = {}
        if record is not None and space.contains(canonical({**space.usual(), **record.params})):
            params = {name: value for name, value in record.params.items() if name in space.searched}
        ask(study, space, params)


def reap(study: optuna.Study, records: Sequence[TrialRecord], objectives: Sequence[str]) -> None:
    """End the trials that an interrupted process left running: from their record, or as failed without one."""
    by_number = {record.number: record for record in records}
    for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)):
        trial = optuna.Trial(study, frozen._trial_id)
        if frozen.number in by_number:
            tell(study, trial, by_number[frozen.number], objectives)
        else:
            trial.set_user_attr("reason", "its process ended before it was measured; it is proposed again")
            study.tell(trial, state=TrialState.FAIL)


def _check_same_study(config: StudyConfig, folder: StudyDir) -> None:
    """Refuse to mix two studies in one folder; budgets and selection may change between runs."""
    if not folder.config_path.is_file():
        return
    old = load_config(folder.config_path)
    fixed = ("model", "revision", "space", "objectives", "constraints", "evaluation", "calibration", "seed")
    changed = [name for name in fixed if getattr(old, name) != getattr(config, name)]
    if changed and folder.trials():
        raise UsageError(
            f"{folder.root} holds a study with another {', '.join(changed)}. Resume it with its own config, or give "
            "this one a folder of its own with --out."
        )


@contextmanager
def _exclusive(root: Path) -> Iterator[None]:
    with (root / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{root} is being run by another process; wait for it, or give --out another folder"
            ) from None
        yield
