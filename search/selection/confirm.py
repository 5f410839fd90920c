"""Confirmation: the front measured again, on fresh samples and held-back text; only these numbers are reported.

The winner of noisy trials is overrated: it was picked because its readings were lucky. Confirmed readings were
taken after the choice, on text that the search never saw. A member leaves the front only where another one surely
beats it; near-ties are timed on while there is time for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.metric import HEADLINES, METRICS
from olivine.passes.errors import OlivineError
from olivine.search.config.constraints import Constraint
from olivine.search.config.sections import StudyConfig
from olivine.search.records import Metrics, TrialRecord, on_every_text
from olivine.search.report.progress import Progress
from olivine.search.selection.contenders import choose_contenders
from olivine.search.selection.dominance_probability import SURE, dominated_among
from olivine.search.selection.measurer import Measurer, try_to_measure
from olivine.search.selection.racing import Raced, race


class Member(NamedTuple):
    """A candidate that was measured again: its record of the search, and its confirmed metrics."""

    record: TrialRecord
    metrics: Metrics


@dataclass(frozen=True)
class Confirmation:
    """The members of the front, measured again.

    Attributes:
        members: every candidate measured again, in front order.
        front: trial numbers of those that are feasible and not surely dominated by the confirmed values.
        default_threads: speedups of the base with its runtime's default threads; empty where it has them.
        failures: members that ran in the search and no longer do, each in a sentence.
        dominated: trial number -> probability that another feasible member beats it in every objective.
        measured: trial number -> times that its latency was measured; more than one for those that were raced.
    """

    members: tuple[Member, ...]
    front: tuple[int, ...]
    default_threads: Metrics = field(default_factory=dict)
    failures: tuple[str, ...] = ()
    dominated: Mapping[int, float] = field(default_factory=dict)
    measured: Mapping[int, int] = field(default_factory=dict)


def confirm(
    measurer: Measurer, records: Sequence[TrialRecord], config: StudyConfig, progress: Progress
) -> Confirmation:
    """Measure up to ``confirm.members`` contenders again; one that no longer runs is named, not confirmed.

    Args:
        measurer: measures recipes.
        records: of the search.
        config: of the study.
        progress: told of each phase and failure.
    """
    chosen = choose_contenders(records, config)
    members: list[Member] = []
    failures: list[str] = []
    for position, record in enumerate(chosen, start=1):
        progress.phase_started(f"confirm {position}/{len(chosen)}: trial {record.number}")
        metrics = _remeasured(measurer, record, progress)
        if isinstance(metrics, OlivineError):
            failures.append(f"Trial {record.number} ran in the search, but failed in confirmation: {metrics}")
            progress.note(failures[-1])
        else:
            members.append(Member(record, metrics))
    limits = config.parsed_constraints()
    raced = _race(measurer, keeping(members, limits), config, progress)
    members = [Member(r, raced[r.number].metrics if r.number in raced else m) for r, m in members]
    feasible = keeping(members, limits)  # a race changes the values
    beaten = dominated_among([metrics for _, metrics in feasible], config.objectives)
    dominated = {record.number: p for (record, _), p in zip(feasible, beaten, strict=True)}
    front = tuple(number for number, probability in dominated.items() if probability < SURE)
    usual = _default_threads(measurer, progress)
    measured = {number: member.measured for number, member in raced.items()}
    return Confirmation(tuple(members), front, usual, tuple(failures), dominated, measured)


def _remeasured(measurer: Measurer, record: TrialRecord, progress: Progress) -> Metrics | OlivineError:
    """The metrics of a candidate anew; one whose process dies is tried once more, since it lived in the search."""

    def measure() -> Metrics:
        return measurer.remeasure(record.recipe, f"{record.number:04d}-confirm")

    metrics = try_to_measure(measure)
    if isinstance(metrics, OlivineError):
        progress.note(f"trial {record.number} is tried once more: {metrics}")
        metrics = try_to_measure(measure)
    return metrics


def shrinkage(confirmation: Confirmation, metrics: Sequence[str]) -> dict[str, float]:
    """Metric -> geometric mean over the members of confirmed value / the search's own.

    A search that believed lucky readings shows in it: speedups shrink, perplexity ratios grow.
    """
    ratios = {}
    for metric in metrics:
        pairs = [(m[metric].value, r.value(metric)) for r, m in confirmation.members if metric in r.metrics]
        logs = [math.log(new / old) for new, old in pairs if new > 0 and old > 0]
        if logs and METRICS[metric].unit != "bytes":
            ratios[metric] = round(math.exp(sum(logs) / len(logs)), 4)
    return ratios


def keeping(members: Sequence[Member], constraints: Sequence[Constraint]) -> list[Member]:
    """The members whose confirmed values keep the constraints, a limit of quality on every kind of text."""
    return [
        member
        for member in members
        if all(c.holds(measured.value) for c in constraints for measured in on_every_text(member.metrics, c.metric))
    ]


def _race(measurer: Measurer, members: Sequence[Member], config: StudyConfig, progress: Progress) -> dict[int, Raced]:
    """Time near-ties on; trial number -> its metrics and the times that it was measured."""

    def again(index: int, before: int) -> list[Measurement]:
        record = members[index].record
        progress.phase_started(f"confirm: trial {record.number} is nearly tied, measured again")
        return _timings(lambda: measurer.retime(record.recipe, f"{record.number:04d}-confirm", before), progress)

    raced = race([metrics for _, metrics in members], config.objectives, again, config.confirm.race or 0.0)
    return {record.number: member for (record, _), member in zip(members, raced, strict=True)}


def _default_threads(measurer: Measurer, progress: Progress) -> Metrics:
    """Speedups of the base with its runtime's default threads, as people run it; empty where it has them."""
    if measurer.base_is_usual:
        return {}
    progress.phase_started("confirm: the base with its runtime's default threads")
    return {m.metric: m for m in _timings(measurer.time_usual, progress) if m.metric in HEADLINES}


def _timings(measure: Callable[[], list[Measurement]], progress: Progress) -> list[Measurement]:
    """Timings that confirmation can do without: none where the model fails, which is noted."""
    timings = try_to_measure(measure)
    if isinstance(timings, OlivineError):
        progress.note(f"not measured: {timings}")
        return []
    return timings
