"""``olivine run`` on a shared study: it measures the base, works with the others, and ends the search."""

from __future__ import annotations

import time

from olivine.evaluators.latency.baseline_times import BaselineTimes
from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.search.records import TrialRecord
from olivine.search.samplers.factory import make_proposer, sampler_name
from olivine.search.study.distributed.hardware import HardwareFingerprint
from olivine.search.study.distributed.machine_defaults import machine_values, pinned
from olivine.search.study.distributed.open_shared import digest_of
from olivine.search.study.distributed.record_sync import RecordSync
from olivine.search.study.distributed.shared_study import SharedStudy, lost_numbers
from olivine.search.study.distributed.worker import Worker
from olivine.search.study.interrupt import Interrupted, finish_trial_on_interrupt
from olivine.search.study.runner import StudyRunner


def lead(search: StudyRunner, shared: SharedStudy, exchange: RecordSync) -> None:
    """Search with whoever joins.

    Raises:
        BuildFailed: when the base itself can't be built or measured.
        Interrupted: after Ctrl-C; the running trial is finished first, and the other workers go on.
    """
    search.announce()
    started = time.monotonic()
    with finish_trial_on_interrupt(search.progress.note) as interrupted:
        search.baseline()
        exchange.adopt(search.records)
        shared.publish(facts(search, search.base_times))
        crew = crew_of(search, shared, exchange, machine_values())
        crew.ended = lambda: search.enough(started)
        crew.interrupted = interrupted
        crew.arrived = lambda record: _arrived(search, record)
        reason = crew.work()
        if interrupted():
            raise Interrupted
    shared.publish(shared.facts() | {"ended": reason})
    for number in lost_numbers(shared.trials()) & {record.number for record in search.records}:
        exchange.take_back(number)
        search.records[:] = [record for record in search.records if record.number != number]
    search.records.sort(key=lambda record: record.number)
    search.progress.note(f"search ended: {reason}")


def facts(search: StudyRunner, pool: BaselineTimes) -> dict[str, object]:
    """What all workers of a study go by."""
    config = search.config
    return {
        "digest": digest_of(config),
        "commit": search.folder.model().get("revision"),
        "budget": config.stop.trials,
        "ended": "",
        "fingerprint": HardwareFingerprint.of_this_machine(config).to_json(),
        "machine": machine_values(),
        "masks": search.masks.to_json(),
        "base": {"ttft_ms": pool.ttft_ms, "tpot_ms": pool.tpot_ms},
    }


def crew_of(search: StudyRunner, shared: SharedStudy, exchange: RecordSync, machine: dict[str, Scalar]) -> Worker:
    """This process as a worker of the study."""
    config, space = search.config, search.config.search_space()
    named = {domain.axis.name for domain in space.domains}
    proposer = make_proposer(
        config,
        sampler_name(config, search.masks),
        search.masks,
        key=lambda choice: LANGUAGE.compose(pinned(choice, machine, named)).key,
    )
    return Worker(
        shared,
        space,
        proposer,
        config.enqueue,
        config.objectives,
        search.objective,
        exchange,
        search.progress,
        stages=search.objective.stages,
        pins=machine,
        budget=config.stop.trials,
        shown=search.shown,
    )


def _arrived(search: StudyRunner, record: TrialRecord) -> None:
    """A trial has ended, here or elsewhere."""
    search.records.append(record)
    search.progress.trial_ended(record, search.front())
