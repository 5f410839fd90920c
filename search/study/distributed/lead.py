"""``olivine run`` on a shared study: it measures the base, works with the others, and ends the search."""

from __future__ import annotations

import time

from olivine.evaluators.latency.baseline_times import BasePool
from olivine.passes.base import Scalar
from olivine.passes.recipe import compose
from olivine.search.records import TrialRecord
from olivine.search.samplers.factory import shared_sampler_name
from olivine.search.samplers.proposer import Proposer
from olivine.search.study.distributed.hardware import Fingerprint
from olivine.search.study.distributed.machine_defaults import machine_values, pinned
from olivine.search.study.distributed.open_shared import digest_of
from olivine.search.study.distributed.record_sync import Exchange
from olivine.search.study.distributed.shared_study import SharedStudy, lost_numbers
from olivine.search.study.distributed.worker import Crew
from olivine.search.study.runner import Interrupted, Search, finish_trial_on_interrupt


def lead(search: Search, shared: SharedStudy, exchange: Exchange) -> None:
    """Search with whoever joins.

    Raises:
        BuildFailed: when the base itself can't be built or measured.
        Interrupted: after Ctrl-C; the running trial is finished first, and the other workers go on.
    """
    search.announce()
    started = time.monotonic()
    with finish_trial_on_interrupt(search.watcher.note) as interrupted:
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
    search.watcher.note(f"search ended: {reason}")


def facts(search: Search, pool: BasePool) -> dict[str, object]:
    """What all workers of a study go by."""
    config = search.config
    return {
        "digest": digest_of(config),
        "commit": search.folder.model().get("revision"),
        "budget": config.stop.trials,
        "ended": "",
        "fingerprint": Fingerprint.of_this_machine(config).to_json(),
        "machine": machine_values(),
        "masks": search.masks.to_json(),
        "base": {"ttft_ms": pool.ttft_ms, "tpot_ms": pool.tpot_ms},
    }


def crew_of(search: Search, shared: SharedStudy, exchange: Exchange, machine: dict[str, Scalar]) -> Crew:
    """This process as a worker of the study."""
    config, space = search.config, search.config.search_space()
    named = {domain.axis.name for domain in space.domains}
    proposer = Proposer(
        space,
        shared_sampler_name(config, search.masks),
        config.seed,
        config.sampler.startup_trials,
        lambda choice: compose(pinned(choice, machine, named)).key,
        masks=search.masks,
    )
    return Crew(
        shared,
        space,
        proposer,
        config.enqueue,
        config.objectives,
        search.objective,
        exchange,
        search.watcher,
        stages=search.objective.stages,
        pins=machine,
        budget=config.stop.trials,
        shown=search.shown,
    )


def _arrived(search: Search, record: TrialRecord) -> None:
    """A trial has ended, here or elsewhere."""
    search.records.append(record)
    search.watcher.trial_ended(record, search.front())
