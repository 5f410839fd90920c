"""Which candidates are confirmed: those that the selection will probably pick, and others along the whole front."""

from __future__ import annotations

from collections.abc import Sequence

from olivine.search.dominance import contenders
from olivine.search.goal import Goal
from olivine.search.metrics import directed
from olivine.search.picks import likely_picks
from olivine.search.records import TrialRecord


def to_confirm(records: Sequence[TrialRecord], config: Goal) -> list[TrialRecord]:
    """At most ``confirm.members`` of a study's candidates that are not surely dominated.

    Half of them are the likeliest picks of ``select:``, the pick by the search's own values first; the others are
    spread along the front. With ``confirm.selectable`` all are picks of the rule, but one: the best in the last
    objective, which is there when all others turn out to have been lucky. Where none may keep ``select.where``, all
    are spread along the front: their confirmed values are the nearest misses.
    """
    candidates, count = [record for record in records if record.number > 0], config.confirm.members
    found = contenders(candidates, config.objectives, max(1, len(candidates)))
    ranked = likely_picks(found, config)
    # What knee and weights pick hangs on the ends of the front, so those are confirmed in any case.
    if not ranked or not config.confirm.selectable or config.select.by != "objective":
        return contenders(candidates, config.objectives, count, ranked[: max(1, count // 2)])
    last = config.objectives[-1]
    safe = min(ranked, key=lambda record: directed(last, record.value(last)))
    chosen = ranked[:count] if safe in ranked[:count] or count == 1 else [*ranked[: count - 1], safe]
    return [record for record in found if record in chosen]
