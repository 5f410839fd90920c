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
from olivine.passes.errors import UsageError
from olivine.passes.source import resolve
from olivine.search.config import StudyConfig, load_config
from olivine.search.environment import describe_environment
from olivine.search.live import Watcher
from olivine.search.metrics import METRICS
from olivine.search.objective import Objective
from olivine.search.protocol import make_evaluators
from olivine.search.records import StudyDir, TrialRecord
from olivine.search.study import Search, tell
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
    folder.root.mkdir(parents=True, exist_ok=True)
    with _exclusive(folder.root):
        _check_same_study(config, folder)
        watcher.phase_started("source")
        source = resolve(config.model, revision=config.revision, trust_remote_code=config.trust_remote_code)
        write_atomic(folder.config_path, config.to_yaml())
        write_atomic(folder.environment_path, json.dumps(describe_environment(source), indent=1))
        cache = Cache(Path(config.cache.folder) if config.cache.folder else cache_root(), config.cache.max_bytes)
        records = folder.trials()
        study = open_storage(folder, storage, config.objectives)
        if not records and study.trials and not any(trial.values for trial in study.trials):
            # Stopped within the base: nothing was measured, and trial 0 has to be the base.
            optuna.delete_study(study_name=study.study_name, storage=study._storage)
            study = open_storage(folder, storage, config.objectives)
        reap(study, records, config.objectives)
        pool = BasePool(folder.root / "base_times.json", pinned=1)
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


def reap(study: optuna.Study, records: Sequence[TrialRecord], objectives: Sequence[str]) -> None:
    """End the trials that an interrupted process left running: from their record, or as failed without one."""
    by_number = {record.number: record for record in records}
    for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)):
        if frozen.number in by_number:
            tell(study, optuna.Trial(study, frozen._trial_id), by_number[frozen.number], objectives)
        else:
            study.tell(frozen.number, state=TrialState.FAIL)


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
