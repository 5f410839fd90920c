"""Selection: pick the confirmed candidate that is deployed, and say why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from olivine.evaluators.metric import METRICS
from olivine.passes.errors import OlivineError
from olivine.passes.parity.proof import notes_among
from olivine.search.config.constraints import Constraint, parse_constraint
from olivine.search.config.sections import StudyConfig
from olivine.search.pareto import nearest_misses
from olivine.search.records import Metrics, TrialRecord, on_every_text
from olivine.search.selection.confirm import Confirmation, Member, keeping
from olivine.search.selection.dominance_probability import SURE, dominated_among
from olivine.search.selection.scalarize import rule_metrics, rule_scores
from olivine.search.selection.warnings import (
    doubtful_timing,
    estimate_text,
    loses_more_elsewhere,
    may_be_beaten,
    may_break,
    named,
    near_ties,
    not_faster,
)

#: Nearest misses that an empty result shows.
SHOWN_MISSES = 5


class NoCandidate(OlivineError):
    """No candidate meets the constraints; the message shows the nearest misses."""

    exit_code = 3


@dataclass(frozen=True)
class Selection:
    """The chosen trial.

    Attributes:
        record: its record from the search.
        metrics: its confirmed metrics.
        reason: why it was chosen, in a sentence.
        warnings: doubts to know before it is deployed, each with its cure.
    """

    record: TrialRecord
    metrics: Metrics
    reason: str
    warnings: tuple[str, ...]


def select(config: StudyConfig, confirmation: Confirmation, records: Sequence[TrialRecord] = ()) -> Selection:
    """Pick by the config's rule from the confirmed members that keep all limits and are not surely dominated.

    These are the confirmed front, without what breaks ``select.where``, and with what only such members dominate.

    Args:
        config: the rule, ``select.where``, and the constraints.
        confirmation: the members measured again.
        records: all trials of the search; they explain an empty front.

    Raises:
        NoCandidate: when no confirmed candidate keeps the constraints and ``select.where``.
    """
    limits = [*config.parsed_constraints(), *map(parse_constraint, config.select.where)]
    able = keeping(confirmation.members, limits)
    if not able:
        raise NoCandidate(_why_none(confirmation, records, limits))
    beaten = dominated_among([metrics for _, metrics in able], config.objectives)
    probability = {record.number: p for (record, _), p in zip(able, beaten, strict=True)}
    eligible = [m for m in able if m.record.number in confirmation.front or probability[m.record.number] < SURE] or able
    columns = {name: np.array([m[name].value for _, m in eligible]) for name in rule_metrics(config)}
    record, metrics = chosen = eligible[int(np.argmin(rule_scores(config, columns)))]
    near: Iterable[str] = ()
    if config.select.by == "objective":
        near = near_ties(rule_metrics(config)[0], chosen, eligible, config.objectives)
    warnings = [
        *(list(near) or may_be_beaten(probability[record.number])),
        *not_faster(metrics),
        *may_break(metrics, limits),
        *loses_more_elsewhere(record, metrics),
        *doubtful_timing(record, metrics),
        *(f"{note[:1].upper()}{note[1:]}." for note in notes_among(record.passes)),
        *confirmation.failures,
    ]
    reason = _reason(config, chosen, [other.number for other, _ in eligible], confirmation.front)
    return Selection(record, metrics, reason, tuple(warnings))


def _reason(config: StudyConfig, chosen: Member, eligible: Sequence[int], front: Sequence[int]) -> str:
    """The reason for that one among the eligible trials, in one sentence or two."""
    record, metrics = chosen
    limits = ", ".join(str(parse_constraint(text)) for text in config.select.where)
    keep = f" that keep {limits}" if limits else ""
    only, several = f"confirmed front member{keep.replace('keep', 'keeps')}", f"confirmed front members{keep}"
    if not set(eligible) <= set(front):
        among = f" on the confirmed front of those{keep}" if limits else ""
        only, several = f"candidate{among}", f"candidates{among}"
    if len(eligible) == 1:
        reason = f"Trial {record.number} is the only {only}."
    else:
        reason = f"Trial {record.number} {_merit(config, metrics)} of the {len(eligible)} {several}."
    if limits and record.number not in front:
        reason += f" It is not on the front of all candidates: what beats it in every objective breaks {limits}."
    return reason


def _merit(config: StudyConfig, metrics: Metrics) -> str:
    """The merit by which the rule picked it: the end of a sentence about it."""
    rule = config.select
    if rule.by == "knee":
        return "is the knee: the point furthest below the line between the front's ends"
    if rule.by == "weights":
        return "is best by weights " + ", ".join(f"{n} {rule.weights.get(n, 0.0):g}" for n in config.objectives)
    (metric,) = rule_metrics(config)
    best = "least" if METRICS[metric].direction == "minimize" else "greatest"
    return f"has the {best} {metric} ({estimate_text(metrics[metric])})"


def _why_none(confirmation: Confirmation, records: Sequence[TrialRecord], constraints: Sequence[Constraint]) -> str:
    """Tell which constraints each confirmed member broke, or each trial of the search; the nearest first."""
    if not confirmation.members:
        why = "; ".join(confirmation.failures) or "no candidate kept the constraints in the search"
        missed = nearest_misses(records, SHOWN_MISSES) or [r for r in records if r.state == "failed"][:SHOWN_MISSES]
        shown = "".join(f"\n  trial {record.number}: {record.reason}" for record in missed)
        return f"No candidate keeps {', '.join(map(str, constraints)) or 'the constraints'}: {why}.{shown}"
    lines = []
    for record, metrics in confirmation.members:
        measured = [(c, found) for c in constraints for found in on_every_text(metrics, c.metric)]
        broken = [(c, found) for c, found in measured if not c.holds(found.value)]
        total = sum(c.violation(found.value) for c, found in broken)
        values = ", ".join(
            f"{named(found.metric)} {found.value:.4g} (asked: {c.relation} {c.bound:g})" for c, found in broken
        )
        lines.append((total, f"  trial {record.number}: {values}"))
    nearest = "\n".join(line for _, line in sorted(lines)[:SHOWN_MISSES])
    return f"No confirmed candidate keeps {', '.join(map(str, constraints))}. Nearest misses:\n{nearest}"
