"""Open a study that several workers share: as the one that leads it, or as one that joins."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection

from olivine.evaluators.metric import METRICS
from olivine.passes.errors import UsageError
from olivine.passes.store.digests import digest
from olivine.search.study.distributed.heartbeat import BEAT_S, WorkerRegistry
from olivine.search.study.distributed.shared_study import SharedStudy
from olivine.search.study.optuna_adapter import id_of, name_metrics
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.workload import AnyWorkload

#: Beats after which one that led and shows no sign of life is no longer taken to lead.
SILENT_BEATS = 3
WAIT_POLL_S = 1.0


def digest_of(workload: AnyWorkload) -> str:
    """Hash of the parts of a config that all workers of a study must agree on: all but budgets and selection."""
    values = workload.config.model_dump(mode="json")
    return digest({name: values[name] for name in (*workload.fixed, "enqueue", "sampler")}, length=12)


def create_shared(storage: BaseStorage, name: str, objectives: Sequence[str], about: Mapping[str, Any]) -> SharedStudy:
    """The shared study of a name, made where it is not there yet."""
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        directions=[METRICS[objective].direction for objective in objectives],
        load_if_exists=True,
    )
    name_metrics(study, objectives)
    side, parts = (_make(storage, f"{name} ({what})") for what in ("turns", "handover"))
    return SharedStudy(study, side, parts, WorkerRegistry(storage, side, about=about))


def join_shared(storage: BaseStorage, name: str, about: Mapping[str, Any]) -> SharedStudy | None:
    """The shared study of a name, or None where nobody has made it yet."""
    try:
        side, parts = (storage.get_study_id_from_name(f"{name} ({what})") for what in ("turns", "handover"))
        study = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return None
    return SharedStudy(study, side, parts, WorkerRegistry(storage, side, about=about))


def _make(storage: BaseStorage, name: str) -> int:
    try:
        return storage.create_new_study([StudyDirection.MINIMIZE], name)
    except optuna.exceptions.DuplicatedStudyError:
        return storage.get_study_id_from_name(name)


def restart_if_empty(shared: SharedStudy, objectives: Sequence[str], folder: StudyDir) -> SharedStudy:
    """For a folder without records: a study that was stopped within its base starts anew.

    Raises:
        UsageError: when the study has measured trials, whose records must then be elsewhere.
    """
    trials = shared.trials()
    if any(trial.values for trial in trials):
        raise UsageError(
            f"the storage has {len(trials)} trials of study '{shared.study.study_name}', but {folder.root} has no "
            "record of them. Resume it with the folder that it was started with, or give --out another name."
        )
    if not trials:
        return shared
    for study_id in (id_of(shared.study), shared.side, shared.parts):
        shared.storage.delete_study(study_id)
    return create_shared(shared.storage, shared.study.study_name, objectives, shared.registry.about)


def refuse_second_leader(shared: SharedStudy, sleep: Callable[[float], None] = time.sleep) -> None:
    """Make sure that no other ``olivine run`` leads this study: one that shows itself again is alive.

    Raises:
        UsageError: naming the one that leads.
    """

    def leaders() -> dict[str, int]:
        return {name: entry["beat"] for name, entry in shared.registry.look().items() if entry["about"].get("leads")}

    before = {name: beat for name, beat in leaders().items() if beat > 0}
    if not before:
        return
    sleep(SILENT_BEATS * BEAT_S)
    for name, beat in leaders().items():
        if before.get(name, beat) != beat and beat > 0:
            raise UsageError(f"study '{shared.study.study_name}' is led by {name}; join it with 'olivine worker'")


def wait_for_facts(
    storage: BaseStorage, name: str, about: Mapping[str, Any], wait_s: float
) -> tuple[SharedStudy, dict[str, Any]]:
    """The study of a name and its facts, once the one that leads has measured the base.

    Raises:
        UsageError: when that has not come after ``wait_s`` seconds.
    """
    deadline = time.monotonic() + wait_s
    while True:
        shared = join_shared(storage, name, about)
        facts = shared.facts() if shared is not None else {}
        if shared is not None and facts:
            return shared, facts
        if time.monotonic() > deadline:
            state = "has no measured base yet" if shared is not None else f"is not in this storage; {_there(storage)}"
            raise UsageError(
                f"After {wait_s:g} s study '{name}' {state}. 'olivine run CONFIG --storage URL' starts it under the "
                "name of its folder; give the worker an --out of the same name, or let it --wait longer."
            )
        time.sleep(min(WAIT_POLL_S, wait_s))


def _there(storage: BaseStorage) -> str:
    """The studies that are there instead."""
    names = [s.study_name for s in storage.get_all_studies() if not s.study_name.endswith((" (turns)", " (handover)"))]
    return f"it has {', '.join(names)}" if names else "it has none"
