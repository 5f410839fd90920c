"""Confirmation: the front measured again, on fresh samples and held-back text; only these numbers are reported.

The winner of noisy trials is overrated: it was picked because its readings were lucky. Confirmed readings were
taken after the choice, on text that the search never saw. A member leaves the front only where another one surely
beats it; near-ties are timed on while there is time for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.metric import HEADLINES, METRICS
from olivine.passes.base import Scalar
from olivine.passes.errors import OlivineError, SourceError, Unwritable
from olivine.search.config.constraints import Constraint
from olivine.search.records import TrialRecord
from olivine.search.report.progress import Progress
from olivine.search.selection.contenders import to_confirm
from olivine.search.selection.dominance import SURE, dominated_among
from olivine.search.selection.racing import race
from olivine.search.study.baseline import base_choice
from olivine.search.study.objective import Evaluators
from olivine.search.study.runner import StudyRunner
from olivine.search.workloads.language import make_evaluators

Confirmed = Mapping[str, Measurement]


@dataclass(frozen=True)
class Confirmation:
    """What confirmation found.

    Attributes:
        members: (record of the search, confirmed metrics) of every member measured again, in front order.
        front: trial numbers of those that are feasible and not surely dominated by the confirmed values.
        default_threads: speedups of GenAI's default of one thread over the base; empty where that is the base.
        failures: members that ran in the search and no longer do, each in a sentence.
        dominated: trial number -> probability that another feasible member beats it in every objective.
        measured: trial number -> how often its latency was measured; more than once for those that were raced.
    """

    members: tuple[tuple[TrialRecord, Confirmed], ...]
    front: tuple[int, ...]
    default_threads: Confirmed
    failures: tuple[str, ...] = ()
    dominated: Mapping[int, float] = field(default_factory=dict)
    measured: Mapping[int, int] = field(default_factory=dict)


def confirm(search: StudyRunner) -> Confirmation:
    """Measure up to ``confirm.members`` contenders again; one that no longer runs is named, not confirmed."""
    config = search.config
    evaluators = make_evaluators(
        config, search.objective.base_artifact(), search.folder, "confirm", search.base_times.snapshot()
    )
    chosen = to_confirm(search.records, config)
    members: list[tuple[TrialRecord, dict[str, Measurement]]] = []
    failures = []
    for position, record in enumerate(chosen, start=1):
        search.progress.phase_started(f"confirm {position}/{len(chosen)}: trial {record.number}")
        try:
            members.append((record, _again(search, record, evaluators)))
        except (Unwritable, SourceError):
            raise
        except OlivineError as error:
            failures.append(f"Trial {record.number} ran in the search, but failed in confirmation: {error}")
            search.progress.note(failures[-1])
    limits = config.parsed_constraints()
    feasible = keeping(members, limits)
    measured = _race(search, feasible, evaluators)
    feasible = keeping(feasible, limits)  # a race changes what is known
    beaten = dominated_among([found for _, found in feasible], config.objectives)
    dominated = {record.number: p for (record, _), p in zip(feasible, beaten, strict=True)}
    front = tuple(number for number, probability in dominated.items() if probability < SURE)
    return Confirmation(tuple(members), front, _default_threads(search), tuple(failures), dominated, measured)


def _again(search: StudyRunner, record: TrialRecord, evaluators: Evaluators) -> dict[str, Measurement]:
    """The metrics of a member anew; one whose process dies is tried once more: in the search it lived."""
    try:
        return search.objective.remeasure(record, evaluators)
    except (Unwritable, SourceError):
        raise
    except OlivineError as error:
        search.progress.note(f"trial {record.number} is tried once more: {error}")
        return search.objective.remeasure(record, evaluators)


def shrinkage(confirmation: Confirmation, metrics: Sequence[str]) -> dict[str, float]:
    """Metric -> geometric mean over the members of confirmed value / the search's own.

    A search that believed lucky readings shows in it: speedups shrink, perplexity ratios grow.
    """
    found = {}
    for metric in metrics:
        pairs = [(m[metric].value, r.value(metric)) for r, m in confirmation.members if metric in r.metrics]
        logs = [math.log(new / old) for new, old in pairs if new > 0 and old > 0]
        if logs and METRICS[metric].unit != "bytes":
            found[metric] = round(math.exp(sum(logs) / len(logs)), 4)
    return found


def keeping(
    members: Sequence[tuple[TrialRecord, dict[str, Measurement]]], constraints: Sequence[Constraint]
) -> list[tuple[TrialRecord, dict[str, Measurement]]]:
    """The members whose confirmed values keep the constraints."""
    return [(r, m) for r, m in members if all(c.holds(m[c.metric].value) for c in constraints if c.metric in m)]


def _race(
    search: StudyRunner, members: Sequence[tuple[TrialRecord, dict[str, Measurement]]], evaluators: Evaluators
) -> dict[int, int]:
    """Time near-ties on; trial number -> how often it was measured."""

    def again(index: int, before: int) -> list[Measurement]:
        record = members[index][0]
        search.progress.phase_started(f"confirm: trial {record.number} is nearly tied, measured again")
        latency = replace(evaluators.latency, seed=evaluators.latency.seed + 1000 * before)
        return unless_lost(search.progress, lambda: search.objective.retime(record, latency))

    seconds = search.config.confirm.race or 0.0
    measured = race([found for _, found in members], search.config.objectives, again, seconds)
    return {record.number: count for (record, _), count in zip(members, measured, strict=True)}


def unless_lost(progress: Progress, measure: Callable[[], list[Measurement]]) -> list[Measurement]:
    """Measurements that confirmation can do without: none where the model's process ends, which is noted."""
    try:
        return measure()
    except (Unwritable, SourceError):
        raise
    except OlivineError as error:
        progress.note(f"not measured: {error}")
        return []


def _default_threads(search: StudyRunner) -> Confirmed:
    """How the base runs with the thread that GenAI takes by default, which is what people run today."""
    choice: dict[str, Scalar] = base_choice(search.config)
    if choice.get("threads", 1) == 1:
        return {}
    search.progress.phase_started("confirm: GenAI's default of one thread")
    found = unless_lost(search.progress, lambda: search.objective.time_choice({**choice, "threads": 1}))
    return {m.metric: m for m in found if m.metric in HEADLINES}
