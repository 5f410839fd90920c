"""The ladder: cheap looks at a candidate come first, and one that can't be deployed is dropped before the dear ones.

    forecast -> size -> first windows -> full text -> latency -> confirmation of the contenders

The forecast (``guide.py``) picks what is built at all. Each later step drops candidates that break a constraint, and
the record says which step and why. The first windows only suspect it: a share of those that they drop, drawn by recipe,
is scored on the full text anyway. That is the audit, which tells how often the windows are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from olivine.evaluators.quality.text_quality import TextQuality, WindowSums
from olivine.evaluators.stats import Interval
from olivine.search.config.constraints import Constraint

SIZE, WINDOWS, TEXT = "size", "first windows", "memory and full text"


@dataclass(frozen=True)
class PruningRules:
    """The rules of one study.

    Attributes:
        constraints: what a candidate has to keep.
        objectives: metric names; where windows tell one, what keeps the constraints is scored on all of them.
        audit: share of those dropped on few windows that are scored on the full text anyway.
    """

    constraints: tuple[Constraint, ...] = ()
    objectives: tuple[str, ...] = ()
    audit: float = 0.0

    def gate(self, recipe_key: str) -> WindowPruner:
        """What looks at one candidate while it is scored."""
        return WindowPruner(self, audited=int(recipe_key[:8], 16) / 16**8 < self.audit)

    def broken(self, sums: WindowSums) -> str | None:
        """The first constraint that is surely broken, in words."""
        bounds = sums.bounds()
        for constraint in self.constraints:
            found = bounds.get(constraint.metric)
            if found is not None and not constraint.holds(_best(constraint, found)):
                return (
                    f"{constraint} is surely broken: {found.value:.4g}, between {found.low:.4g} and {found.high:.4g}, "
                    f"after {len(sums.nll)} windows"
                )
        return None

    def kept(self, sums: WindowSums) -> str | None:
        """Whether more windows have nothing to tell: no objective, and all constraints on them surely kept."""
        watched = [c for c in self.constraints if c.metric in TextQuality.metrics]
        bounds = sums.bounds()
        if (
            not watched
            or set(self.objectives) & set(TextQuality.metrics)
            or any(c.metric not in bounds for c in watched)
        ):
            return None
        if not all(c.holds(_worst(c, bounds[c.metric])) for c in watched):
            return None
        return f"{', '.join(map(str, watched))} surely kept after {len(sums.nll)} windows"


@dataclass
class WindowPruner:
    """The stop rule of one candidate's scoring (:attr:`TextQuality.stop`), and what it found.

    Attributes:
        ladder: its rules.
        audited: whether the candidate is scored on where others are dropped.
        broken: why it is dropped, or would be.
    """

    ladder: PruningRules
    audited: bool
    broken: str | None = None

    def __call__(self, sums: WindowSums) -> str | None:
        """Why scoring ends after these windows; None while it goes on."""
        if self.broken is None:
            self.broken = self.ladder.broken(sums)
        if self.broken is None:
            return self.ladder.kept(sums)
        return self.dropped

    @property
    def dropped(self) -> str | None:
        """The reason, where it ends the candidate."""
        return None if self.audited else self.broken


def rung(step: str, reason: str, audited: bool = False) -> dict[str, Any]:
    """What a record keeps of the step that dropped its trial, or would have but for the audit."""
    return {"step": step, "reason": reason, "audited": audited}


def _best(constraint: Constraint, found: Interval) -> float:
    return found.low if constraint.relation == "<=" else found.high


def _worst(constraint: Constraint, found: Interval) -> float:
    return found.high if constraint.relation == "<=" else found.low
