"""Racing: confirmed candidates that are nearly tied are timed on, so that the front is decided by more than luck."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from olivine.evaluators.latency.speedup import narrowed, widened
from olivine.evaluators.measurement import Measurement
from olivine.evaluators.metric import METRICS
from olivine.evaluators.stats import Interval, pooled
from olivine.search.records import Metrics
from olivine.search.selection.dominance_probability import SURE, dominated_among


def undecided(members: Sequence[Metrics], objectives: Sequence[str]) -> list[int]:
    """Indices of members that are neither surely dominated nor surely not, the most doubtful first."""
    beaten = dominated_among(members, objectives)
    doubtful = [index for index, probability in enumerate(beaten) if 1 - SURE < probability < SURE]
    return sorted(doubtful, key=lambda index: abs(beaten[index] - 0.5))


def tied(members: Sequence[Metrics], objectives: Sequence[str]) -> list[int]:
    """The undecided, and members that may dominate them: the doubt is as much in a rival's error as in their own."""
    doubtful = undecided(members, objectives)
    rivals = [
        other
        for index in doubtful
        for other in range(len(members))
        if other not in doubtful and dominated_among([members[index], members[other]], objectives)[0] > 1 - SURE
    ]
    return list(dict.fromkeys([*doubtful, *rivals]))


class Raced(NamedTuple):
    """A member after the race: its metrics by all measurements, and the number of times that it was measured."""

    metrics: Metrics
    measured: int = 1


def race(
    members: Sequence[Metrics],
    objectives: Sequence[str],
    measure: Callable[[int, int], list[Measurement]],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> list[Raced]:
    """Time members whose place is in doubt, and their rivals, again, the least measured first, while time remains.

    Args:
        members: confirmed metrics.
        objectives: metric names; only those of latency can be raced.
        measure: (index, times that it was measured before) -> latency measurements of that member; none where it no
            longer runs: it is not raced any more.
        seconds: that may be spent.
        clock: seconds.

    Returns:
        The members in their order; those that were not raced as they came, measured once.
    """
    raced = [Raced(metrics) for metrics in members]
    if all(METRICS[name].family != "latency" for name in objectives):
        return raced
    started, lost = clock(), set[int]()
    while clock() - started < seconds:
        racing = [index for index in tied([member.metrics for member in raced], objectives) if index not in lost]
        if not racing:
            break
        index = min(racing, key=lambda i: raced[i].measured)
        metrics, count = raced[index]
        if fresh := measure(index, count):
            raced[index] = Raced({**metrics, **{m.metric: combined(metrics[m.metric], m) for m in fresh}}, count + 1)
        else:
            lost.add(index)
    return raced


def combined(first: Measurement, second: Measurement) -> Measurement:
    """Pool two independent measurements of one positive quantity; all samples are kept."""
    # Noise of neighbours lasts for minutes: measuring again at once does not narrow it.
    shared = [m.protocol.get("neighbours", 0.0) for m in (first, second)]
    alone = [narrowed(_log(m), deviation) for m, deviation in zip((first, second), shared, strict=True)]
    both = widened(pooled(alone), max(shared)).exp()
    known = {"neighbours": max(shared)} if any(shared) else {}
    protocol = {
        **first.protocol,
        **known,
        "measured_again": [*first.protocol.get("measured_again", ()), dict(second.protocol)],
    }
    samples = (*first.samples, *second.samples)
    return replace(first, value=both.value, low=both.low, high=both.high, samples=samples, protocol=protocol)


def _log(m: Measurement) -> Interval:
    low = math.log(m.low) if m.low > 0 else -math.inf
    return Interval(math.log(m.value), low, math.log(m.high) if math.isfinite(m.high) else math.inf)
