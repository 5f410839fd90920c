"""Confirmation: the front measured again, on fresh samples and held-back text; only these numbers are reported.

The winner of noisy trials is overrated: it was picked because its readings were lucky. Confirmed readings were
taken after the choice, on text that the search never saw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from olivine.evaluators.base import Measurement
from olivine.passes.base import Scalar
from olivine.passes.errors import OlivineError, SourceError, Unwritable
from olivine.search.metrics import directed
from olivine.search.objective import Evaluators
from olivine.search.pareto import nondominated
from olivine.search.protocol import make_evaluators
from olivine.search.records import TrialRecord
from olivine.search.study import Search, base_choice

Confirmed = Mapping[str, Measurement]


@dataclass(frozen=True)
class Confirmation:
    """What confirmation found.

    Attributes:
        members: (record of the search, confirmed metrics) of every member measured again, in front order.
        front: trial numbers of those that are feasible and nondominated by the confirmed values.
        default_threads: speedups of GenAI's default of one thread over the base; empty where that is the base.
        failures: members that ran in the search and no longer do, each in a sentence.
    """

    members: tuple[tuple[TrialRecord, Confirmed], ...]
    front: tuple[int, ...]
    default_threads: Confirmed
    failures: tuple[str, ...] = ()


def confirm(search: Search) -> Confirmation:
    """Measure up to ``confirm.members`` front members again; one that no longer runs is named, not confirmed."""
    config = search.config
    evaluators = make_evaluators(
        config, search.objective.base_artifact(), search.folder, "confirm", search.base_times.frozen()
    )
    chosen = spread(search.front(), config.confirm.members)
    members: list[tuple[TrialRecord, Confirmed]] = []
    failures = []
    for position, record in enumerate(chosen, start=1):
        search.watcher.phase_started(f"confirm {position}/{len(chosen)}: trial {record.number}")
        try:
            members.append((record, _again(search, record, evaluators)))
        except (Unwritable, SourceError):
            raise
        except OlivineError as error:
            failures.append(f"Trial {record.number} ran in the search, but failed in confirmation: {error}")
            search.watcher.note(failures[-1])
    return Confirmation(tuple(members), _front(search, members), _default_threads(search), tuple(failures))


def _again(search: Search, record: TrialRecord, evaluators: Evaluators) -> Confirmed:
    """The metrics of a member anew; one whose process dies is tried once more: in the search it lived."""
    try:
        return search.objective.remeasure(record, evaluators)
    except (Unwritable, SourceError):
        raise
    except OlivineError as error:
        search.watcher.note(f"trial {record.number} is tried once more: {error}")
        return search.objective.remeasure(record, evaluators)


def spread(members: Sequence[TrialRecord], count: int) -> list[TrialRecord]:
    """At most ``count`` members, spread evenly along the front, both ends included."""
    if len(members) <= count:
        return list(members)
    if count == 1:
        return [members[0]]
    return [members[round(i * (len(members) - 1) / (count - 1))] for i in range(count)]


def _front(search: Search, members: Sequence[tuple[TrialRecord, Confirmed]]) -> tuple[int, ...]:
    constraints = search.config.parsed_constraints()
    feasible = [
        (record.number, [directed(name, found[name].value) for name in search.config.objectives])
        for record, found in members
        if all(c.holds(found[c.metric].value) for c in constraints if c.metric in found)
    ]
    if not feasible:
        return ()
    kept = nondominated(_array([values for _, values in feasible]))
    return tuple(number for (number, _), keep in zip(feasible, kept, strict=True) if keep)


def _array(values: Sequence[Sequence[float]]) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)


def _default_threads(search: Search) -> Confirmed:
    """How the base runs with the thread that GenAI takes by default, which is what people run today."""
    choice: dict[str, Scalar] = base_choice(search.config)
    if choice.get("threads", 1) == 1:
        return {}
    search.watcher.phase_started("confirm: GenAI's default of one thread")
    found = search.objective.time_choice({**choice, "threads": 1})
    return {m.metric: m for m in found if m.metric in ("ttft_speedup", "tpot_speedup")}
