"""Drop a candidate that can't be deployed at the cheapest step that shows it.

    forecast -> size -> first windows -> full text -> latency -> confirmation of the contenders

The forecast (``samplers/surrogate.py``) picks the candidates that are built at all. Each later step drops those that
break a constraint, and the record says the step and the reason. The first windows only suspect a candidate, so a share
of those that they drop, drawn by recipe, is scored on the full text anyway: the audit, which tells how often the
windows are wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from olivine.evaluators.quality.text_quality import TextQuality, WindowSums
from olivine.evaluators.stats import Interval
from olivine.search.config.constraints import Constraint

#: Names of steps in records.
SIZE, WINDOWS = "size", "first windows"


@dataclass(frozen=True)
class PruningRules:
    """The rules of one study.

    Attributes:
        constraints: to be kept by every candidate.
        objectives: metric names; a candidate that keeps the constraints is scored on all windows where windows tell
            one of them.
        audit: share of those dropped on few windows that are scored on the full text anyway.
    """

    constraints: Sequence[Constraint] = ()
    objectives: Sequence[str] = ()
    audit: float = 0.0

    def pruner(self, recipe_key: str) -> WindowPruner:
        """The stop rule for the scoring of one candidate."""
        return WindowPruner(self, audited=int(recipe_key[:8], 16) / 16**8 < self.audit)

    def broken(self, sums: WindowSums) -> str | None:
        """The first constraint that is surely broken, in words."""
        bounds = sums.bounds()
        for constraint in self.constraints:
            interval = bounds.get(constraint.metric)
            if interval is not None and not constraint.holds(_best(constraint, interval)):
                return (
                    f"{constraint} is surely broken: {interval.value:.4g}, between {interval.low:.4g} and "
                    f"{interval.high:.4g}, after {len(sums.nll)} windows"
                )
        return None

    def kept(self, sums: WindowSums) -> str | None:
        """The constraints on windows, where all are surely kept and no objective needs further windows; else None."""
        watched = [c for c in self.constraints if c.metric in TextQuality.metrics]
        bounds = sums.bounds()
        if not watched or set(self.objectives) & set(TextQuality.metrics):
            return None
        if not all(c.metric in bounds and c.holds(_worst(c, bounds[c.metric])) for c in watched):
            return None
        return f"{', '.join(map(str, watched))} surely kept after {len(sums.nll)} windows"


@dataclass
class WindowPruner:
    """The stop rule of one candidate's scoring (:attr:`TextQuality.stop`).

    Attributes:
        rules: of the study.
        audited: the candidate is scored on where others are dropped.
        broken: the constraint that it surely breaks, in words; set while it is scored.
    """

    rules: PruningRules
    audited: bool
    broken: str | None = None

    def __call__(self, sums: WindowSums) -> str | None:
        """The reason to stop after these windows; None to go on."""
        if self.broken is None:
            self.broken = self.rules.broken(sums)
        if self.broken is None:
            return self.rules.kept(sums)
        return self.dropped

    @property
    def dropped(self) -> str | None:
        """The reason, where it ends the candidate."""
        return None if self.audited else self.broken


def rung(step: str, reason: str, audited: bool = False) -> dict[str, Any]:
    """Describe, for a record, the step that dropped its trial, or would have but for the audit."""
    return {"step": step, "reason": reason, "audited": audited}


def _best(constraint: Constraint, interval: Interval) -> float:
    return interval.low if constraint.relation == "<=" else interval.high


def _worst(constraint: Constraint, interval: Interval) -> float:
    return interval.high if constraint.relation == "<=" else interval.low
