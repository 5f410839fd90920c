"""Contenders: the candidates that are confirmed, likely picks of the selection and others along the whole front."""

from __future__ import annotations

from collections.abc import Sequence

from olivine.evaluators.metric import directed
from olivine.search.config.constraints import parse_constraint
from olivine.search.config.sections import StudyConfig
from olivine.search.records import TrialRecord
from olivine.search.selection.dominance_probability import likely_front, spread
from olivine.search.selection.pick_probability import ENDS, holds_at, likely_picks


def choose_contenders(records: Sequence[TrialRecord], config: StudyConfig) -> list[TrialRecord]:
    """At most ``confirm.members`` of a study's candidates, best in the first objective first.

    Half of them are the likeliest picks of ``select:``, the pick by the search's own values first; the others are
    spread along the front. Where that leaves room, further picks follow. With ``confirm.selectable`` all are picks of
    the rule, but one: the best in the last objective, which is there when all others turn out to have been lucky. Where
    confirmation scores text of other kinds, half of them are picks and the others lie between these and that one.
    Where none may keep ``select.where``, all are spread along the front: their confirmed values are the nearest misses.
    """
    candidates, count = [record for record in records if record.number > 0], config.confirm.members
    ranked = likely_picks(_pickable(candidates, config), config)
    # The pick of knee and weights hangs on the ends of the front, so these are confirmed in any case.
    if not ranked or not config.confirm.selectable or config.select.by != "objective":
        chosen = likely_front(candidates, config.objectives, count, ranked[: max(1, count // 2)])
        return _sorted([*chosen, *[r for r in ranked if r not in chosen][: count - len(chosen)]], config)
    last = config.objectives[-1]
    safe = min(ranked, key=lambda record: directed(last, record.value(last)))
    if config.other_kinds() and count > 1:  # the likeliest picks lie at the limit, which text of another kind may break
        likely = ranked[: max(1, count // 2)]
        first = likely if safe in likely else [*likely, safe]
        return _sorted(spread(_sorted(ranked, config), count, first), config)
    chosen = ranked[:count] if safe in ranked[:count] or count == 1 else [*ranked[: count - 1], safe]
    return _sorted(chosen, config)


def _pickable(candidates: Sequence[TrialRecord], config: StudyConfig) -> list[TrialRecord]:
    """Candidates that are not surely dominated by others that keep ``select.where`` as well as they do.

    A candidate that breaks it can't be picked, so it takes no other's place, however good its objectives. An uncertain
    reading may keep it at the better end of its interval only, by value, or at the worse end too: a candidate that
    breaks it in confirmation after all must not have kept out one that doesn't.
    """
    where = [parse_constraint(text) for text in config.select.where]
    keeping = [[r for r in candidates if all(holds_at(end, c, r) for c in where)] for end in ENDS]
    pickable: dict[int, TrialRecord] = {}
    for index, rivals in enumerate(keeping):
        if rivals and rivals not in keeping[:index]:
            pickable |= {record.number: record for record in likely_front(rivals, config.objectives, len(rivals))}
    return _sorted(list(pickable.values()), config)


def _sorted(records: Sequence[TrialRecord], config: StudyConfig) -> list[TrialRecord]:
    first = config.objectives[0]
    return sorted(records, key=lambda record: (directed(first, record.value(first)), record.number))
