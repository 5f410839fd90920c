"""Selection: which confirmed candidate is deployed, and why, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from olivine.evaluators.latency.warnings import oversubscribed
from olivine.evaluators.measurement import Measurement
from olivine.evaluators.metric import METRICS, TASK_METRICS
from olivine.passes.cpu import available_cores
from olivine.passes.errors import OlivineError
from olivine.search.config.constraints import Constraint, parse_constraint
from olivine.search.config.sections import StudyConfig
from olivine.search.pareto import nearest_misses
from olivine.search.records import TrialRecord
from olivine.search.selection.confirm import Confirmation, Confirmed
from olivine.search.selection.dominance import SURE, dominated_among
from olivine.search.selection.scalarize import rule_metrics, rule_scores

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
        warnings: what a person should know before deploying it, each with what to do.
    """

    record: TrialRecord
    metrics: Confirmed
    reason: str
    warnings: tuple[str, ...]


def select(config: StudyConfig, confirmation: Confirmation, records: Sequence[TrialRecord] = ()) -> Selection:
    """Pick by the config's rule from what is not surely dominated among the confirmed that keep all that is asked for.

    That is the confirmed front, without what breaks ``select.where``, and with what only such members dominate.

    Args:
        config: the rule, ``select.where``, and the constraints.
        confirmation: what was measured again.
        records: all trials of the search; they explain an empty front.

    Raises:
        NoCandidate: when no confirmed candidate keeps the constraints and ``select.where``.
    """
    where = [parse_constraint(text) for text in config.select.where]
    limits = [*config.parsed_constraints(), *where]
    able = [(record, metrics) for record, metrics in confirmation.members if _keeps(metrics, limits)]
    if not able:
        raise NoCandidate(_why_none(confirmation, records, limits))
    beaten = dominated_among([metrics for _, metrics in able], config.objectives)
    probability = {record.number: p for (record, _), p in zip(able, beaten, strict=True)}
    eligible = [(r, m) for r, m in able if r.number in confirmation.front or probability[r.number] < SURE] or able
    rule = config.select
    columns = {name: np.array([m[name].value for _, m in eligible]) for name in rule_metrics(config)}
    index = int(np.argmin(rule_scores(config, columns)))
    near: list[str] = []
    if rule.by == "knee":
        how = "is the knee: the point furthest below the line between the front's ends"
    elif rule.by == "weights":
        how = "is best by weights " + ", ".join(f"{n} {rule.weights.get(n, 0.0):g}" for n in config.objectives)
    else:
        (metric,) = rule_metrics(config)
        best = "least" if METRICS[metric].direction == "minimize" else "greatest"
        how = f"has the {best} {metric} ({_text(eligible[index][1][metric])})"
        near = _near_ties(metric, eligible[index], eligible, config.objectives)
    record, metrics = eligible[index]
    asked = ", ".join(map(str, where))
    kept = f" that keep {asked}" if where else ""
    only, several = f"confirmed front member{kept.replace('keep', 'keeps')}", f"confirmed front members{kept}"
    if any(other.number not in confirmation.front for other, _ in eligible):
        among = f" on the confirmed front of those{kept}" if where else ""
        only, several = f"candidate{among}", f"candidates{among}"
    if len(eligible) == 1:
        reason = f"Trial {record.number} is the only {only}."
    else:
        reason = f"Trial {record.number} {how} of the {len(eligible)} {several}."
    if where and record.number not in confirmation.front:
        reason += f" It is not on the front of all candidates: what beats it in every objective breaks {asked}."
    warnings = [
        *(near or _ties(probability[record.number])),
        *_warnings(metrics, limits),
        *_machine(record, metrics),
        *confirmation.failures,
    ]
    return Selection(record, metrics, reason, tuple(warnings))


def _near_ties(
    metric: str,
    chosen: tuple[TrialRecord, Confirmed],
    eligible: Sequence[tuple[TrialRecord, Confirmed]],
    objectives: Sequence[str],
) -> list[str]:
    """Members that are not surely worse in the metric that decided, and surely better in another objective."""
    record, metrics = chosen
    found = []
    for other, theirs in eligible:
        others = [name for name in objectives if name != metric and _surely_better(name, theirs, metrics)]
        if other.number != record.number and others and not _surely_better(metric, metrics, theirs):
            better = " and ".join(
                f"{name} {theirs[name].value:.4g} instead of {metrics[name].value:.4g}" for name in others
            )
            found.append(
                f"The gap that decided is within the noise: trial {other.number} has {metric} "
                f"{_text(theirs[metric])}, and surely better {better}. Raise confirm.max_seconds to decide it, or take "
                f"that one: olivine export STUDY_DIR --trial {other.number} --to DIR."
            )
    return found


def _surely_better(metric: str, one: Confirmed, other: Confirmed) -> bool:
    """Whether two 95 % intervals leave no doubt; they overlap where there is any."""
    if METRICS[metric].direction == "minimize":
        return one[metric].high < other[metric].low
    return one[metric].low > other[metric].high


def _keeps(metrics: Confirmed, constraints: Iterable[Constraint]) -> bool:
    return all(c.holds(metrics[c.metric].value) for c in constraints if c.metric in metrics)


def _text(m: Measurement) -> str:
    return f"{m.value:.4g}, 95 % interval {m.low:.4g} to {m.high:.4g}"


def _warnings(metrics: Mapping[str, Measurement], constraints: Iterable[Constraint]) -> Iterable[str]:
    for metric, action in (("tpot_speedup", "decode"), ("ttft_speedup", "prefill"), ("latency_speedup", "latency")):
        if (found := metrics.get(metric)) is None:
            continue
        if found.high < 1:
            yield (
                f"It is slower than the float base in {action} ({_text(found)}). If that matters, add "
                f"'{metric} >= 1' to the constraints or make {metric.replace('speedup', 'ms')} an objective."
            )
        elif found.low < 1:
            yield (
                f"No difference to the float base was found in {action} ({_text(found)}). Raise "
                "evaluation.latency.max_seconds to decide it."
            )
    for constraint in constraints:
        if (found := metrics.get(constraint.metric)) is None:
            continue
        worst = found.high if constraint.relation == "<=" else found.low
        if not constraint.holds(worst):
            cure = "evaluation.windows (or latency.max_seconds)"
            if constraint.metric in TASK_METRICS:
                cure = "evaluation.task.limit (or give more rows)"
            yield (
                f"{constraint} holds for the estimate, but not over its whole interval ({_text(found)}). Raise "
                f"{cure} to be sure."
            )


def _ties(probability: float) -> Iterable[str]:
    """A choice that rests on a difference smaller than its interval: one that may be beaten by others like it."""
    if probability > 1 - SURE:
        yield (
            f"Another confirmed member beats it in every objective with a probability of {probability:.0%}: the gap is "
            "smaller than the intervals. Raise confirm.race or confirm.max_seconds to decide it."
        )


def _machine(record: TrialRecord, metrics: Confirmed) -> Iterable[str]:
    """What its measurement was doubtful of, and threads that have no core."""
    timed = metrics.get("tpot_speedup") or metrics.get("latency_speedup")
    yield from timed.protocol.get("cautions", ()) if timed is not None else ()
    threads = record.recipe.threads
    if threads and record.provider == "cpu" and (said := oversubscribed(threads, available_cores())):
        yield said


def _why_none(confirmation: Confirmation, records: Sequence[TrialRecord], constraints: list[Constraint]) -> str:
    """Nothing qualified: what each confirmed member broke, or each trial of the search; the nearest first."""
    if not confirmation.members:
        why = "; ".join(confirmation.failures) or "no candidate kept the constraints in the search"
        missed = nearest_misses(records, SHOWN_MISSES) or [r for r in records if r.state == "failed"][:SHOWN_MISSES]
        shown = "".join(f"\n  trial {record.number}: {record.reason}" for record in missed)
        return f"No candidate keeps {', '.join(map(str, constraints)) or 'the constraints'}: {why}.{shown}"
    lines = []
    for record, metrics in confirmation.members:
        broken = [c for c in constraints if c.metric in metrics and not c.holds(metrics[c.metric].value)]
        total = sum(c.violation(metrics[c.metric].value) for c in broken)
        said = ", ".join(f"{c.metric} {metrics[c.metric].value:.4g} (asked: {c.relation} {c.bound:g})" for c in broken)
        lines.append((total, f"  trial {record.number}: {said}"))
    nearest = "\n".join(line for _, line in sorted(lines)[:SHOWN_MISSES])
    return f"No confirmed candidate keeps {', '.join(map(str, constraints))}. Nearest misses:\n{nearest}"
