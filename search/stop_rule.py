"""The rule that ends the scoring of a candidate which has surely broken a constraint."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from olivine.evaluators.quality import WindowSums
from olivine.search.metrics import Constraint


def stop_rule(constraints: Iterable[Constraint]) -> Callable[[WindowSums], str | None]:
    """A stop rule for :class:`Quality`: ends the scoring of a candidate that has surely broken a constraint."""
    watched = tuple(constraints)

    def stop(sums: WindowSums) -> str | None:
        bounds = sums.bounds()
        for constraint in watched:
            interval = bounds.get(constraint.metric)
            if interval is None:
                continue
            best = interval.low if constraint.relation == "<=" else interval.high
            if not constraint.holds(best):
                return (
                    f"{constraint} is surely broken: {interval.value:.4g}, between {interval.low:.4g} and "
                    f"{interval.high:.4g}, after {len(sums.nll)} windows"
                )
        return None

    return stop
