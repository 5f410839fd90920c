"""``olivine run`` on a shared study: it measures the base, works with the others, and ends the search."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import optuna
from optuna.storages import BaseStorage

from olivine.search.report.progress import Progress
from olivine.search.study.begin import Start, begin
from olivine.search.study.candidates import shared_candidates
from olivine.search.study.distributed.hardware import HardwareFingerprint
from olivine.search.study.distributed.open_shared import (
    create_shared,
    digest_of,
    refuse_second_leader,
    restart_if_empty,
)
from olivine.search.study.distributed.record_sync import RecordSync
from olivine.search.study.distributed.shared_study import SharedStudy, lost_numbers
from olivine.search.study.distributed.worker import Job, LeaderDuties, Worker
from olivine.search.study.interrupt import Interrupted, finish_trial_on_interrupt
from olivine.search.study.machine_defaults import machine_values
from olivine.search.study.open import OpenStudy, equipped, locked_folder, valid_records
from olivine.search.study.runner import announce
from olivine.search.study.stopping import StopRules
from olivine.search.study.trials.objective import Objective
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.newer_defaults import begun_values
from olivine.search.workloads.text_defaults import begun_texts, learns_from_own_text
from olivine.search.workloads.workload import AnyWorkload


@contextmanager
def open_shared_study(
    workload: AnyWorkload, folder: StudyDir, storage: BaseStorage, progress: Progress
) -> Iterator[tuple[OpenStudy, SharedStudy]]:
    """Create the shared study of a folder's name in a storage, or resume it, as the one that leads it.

    Raises:
        UsageError: as :func:`olivine.search.study.open.open_study`; also when another process leads it, or its records
            are elsewhere.
        SourceError: when the model can't be found or exported.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    objectives = workload.config.objectives
    with locked_folder(workload, folder, progress) as source:
        shared = create_shared(storage, folder.root.resolve().name, objectives, {"leads": True})
        refuse_second_leader(shared)
        records = valid_records(folder)
        if not records:
            shared = restart_if_empty(shared, objectives, folder)
        requests = folder.root / "requests"
        with shared.registry, equipped(workload, source, progress, requests) as (tools, baseline, cache):
            yield OpenStudy(tools, baseline, folder, shared.study, source, cache, records), shared


def run_shared_search(opened: OpenStudy, shared: SharedStudy, sync: RecordSync) -> Objective:
    """Search with all workers that join.

    Returns:
        The objective, whose base and builds confirmation uses.

    Raises:
        BuildFailed: when the base itself can't be built or measured.
        Interrupted: after Ctrl-C; the running trial is finished first, and the other workers go on.
    """
    config, records = opened.config, opened.records
    rules = StopRules.of(config, records)
    announce(opened)
    with finish_trial_on_interrupt(opened.progress.note) as interrupted:
        start = begin(opened)
        sync.adopt(records)
        machine = machine_values()
        shared.publish(study_facts(opened, start) | {"machine": machine})
        candidates = shared_candidates(opened.tools.workload, start.masks, machine)
        duties = LeaderDuties(config.stop.trials, lambda: rules.reason(records))
        job = Job(config.objectives, opened.add, interrupted, duties=duties)
        reason = Worker(shared, candidates, start.objective, sync, opened.progress, job).work()
        if interrupted():
            raise Interrupted
    shared.publish(shared.facts() | {"ended": reason})
    for number in lost_numbers(shared.trials()) & {record.number for record in records}:
        sync.take_back(number)
        records[:] = [record for record in records if record.number != number]
    records.sort(key=lambda record: record.number)
    opened.progress.note(f"search ended: {reason}")
    return start.objective


def study_facts(opened: OpenStudy, start: Start) -> dict[str, object]:
    """Facts that all workers of a study go by."""
    workload = opened.tools.workload
    return {
        "digest": digest_of(workload),
        "commit": opened.folder.model().get("revision"),
        "budget": opened.config.stop.trials,
        "ended": "",
        "fingerprint": HardwareFingerprint.of_this_machine(opened.config).to_json(),
        "begun": begun_values(opened.config),
        "texts": begun_texts(opened.config),
        "learned": start.objective.learned_key if learns_from_own_text(opened.config) else None,
        "masks": start.masks.to_json(),
        "base": workload.reading(opened.records[0].metrics),
    }
