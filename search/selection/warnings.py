"""Warnings: each sentence tells what is doubtful about the selected candidate, and the cure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from olivine.evaluators.latency.warnings import oversubscribed
from olivine.evaluators.measurement import Measurement
from olivine.evaluators.metric import BY_TEXT, HEADLINES, METRICS, TASK_METRICS, on_text, split_text
from olivine.passes.cpu import available_cores
from olivine.search.config.constraints import Constraint
from olivine.search.records import Metrics, TrialRecord, on_every_text
from olivine.search.selection.confirm import Member
from olivine.search.selection.dominance_probability import SURE


def near_ties(
    metric: str,
    chosen: Member,
    eligible: Sequence[Member],
    objectives: Sequence[str],
) -> Iterator[str]:
    """Warn of members that are not surely worse in the metric that decided, and surely better in another objective."""
    record, metrics = chosen
    for other, theirs in eligible:
        better = [name for name in objectives if name != metric and _surely_better(name, theirs, metrics)]
        if other.number != record.number and better and not _surely_better(metric, metrics, theirs):
            gains = " and ".join(f"{n} {theirs[n].value:.4g} instead of {metrics[n].value:.4g}" for n in better)
            yield (
                f"The gap that decided is within the noise: trial {other.number} has {metric} "
                f"{estimate_text(theirs[metric])}, and surely better {gains}. Raise confirm.max_seconds to decide it, "
                f"or take that one: olivine export STUDY_DIR --trial {other.number} --to DIR."
            )


def _surely_better(metric: str, ours: Metrics, theirs: Metrics) -> bool:
    """True where two 95 % intervals leave no doubt; they overlap where there is any."""
    if METRICS[metric].direction == "minimize":
        return ours[metric].high < theirs[metric].low
    return ours[metric].low > theirs[metric].high


def may_be_beaten(probability: float) -> Iterator[str]:
    """Warn of a choice that rests on a difference smaller than its interval."""
    if probability > 1 - SURE:
        yield (
            f"Another confirmed member beats it in every objective with a probability of {probability:.0%}: the gap is "
            "smaller than the intervals. Raise confirm.race or confirm.max_seconds to decide it."
        )


def not_faster(metrics: Metrics) -> Iterator[str]:
    """Warn of each speedup that is below 1, or that may be."""
    for metric in HEADLINES:
        of, speedup = METRICS[metric].ratio_of, metrics.get(metric)
        if METRICS[metric].family != "latency" or speedup is None or speedup.low >= 1:
            continue
        words = f"its {METRICS[metric].title} is {estimate_text(speedup)}"
        if speedup.high < 1:
            yield (
                f"It is slower than the float base: {words}. If that matters, add '{metric} >= 1' to the constraints "
                f"or make {of} an objective."
            )
        else:
            yield (
                f"No difference to the float base was found: {words}. Raise evaluation.latency.max_seconds to decide "
                "it."
            )


def may_break(metrics: Metrics, constraints: Iterable[Constraint]) -> Iterator[str]:
    """Warn of each constraint that the estimate keeps, but not its whole interval."""
    checked = [(limit, measured) for limit in constraints for measured in on_every_text(metrics, limit.metric)]
    for constraint, measurement in checked:
        if constraint.holds(measurement.high if constraint.relation == "<=" else measurement.low):
            continue
        where = f" on {text}" if (text := split_text(measurement.metric)[1]) else ""
        cure = "evaluation.windows (or latency.max_seconds)"
        if constraint.metric in TASK_METRICS:
            cure = "evaluation.task.limit (or give more rows)"
        yield (
            f"{constraint} holds{where} for the estimate, but not over its whole interval "
            f"({estimate_text(measurement)}). Raise {cure} to be sure."
        )


def loses_more_elsewhere(record: TrialRecord, metrics: Metrics) -> Iterator[str]:
    """Warn of each kind of text on which it loses more than on the study's own, by more than the intervals."""
    texts = dict.fromkeys(text for name in metrics if (text := split_text(name)[1]))
    for text in texts:
        pairs = [(metrics.get(metric), metrics.get(on_text(metric, text))) for metric in BY_TEXT]
        more = [(own, other) for own, other in pairs if own and other and own.high < other.low]
        if not more:
            continue
        values = " and ".join(
            f"its {METRICS[own.metric].title} is {estimate_text(other)}, instead of {estimate_text(own)}"
            for own, other in more
        )
        cure = "Name the kind of text that it will meet as evaluation.text, and ask for what it should keep there."
        if record.recipe.needs_calibration:
            cure = (
                "What it learned suits the text that it learned from: add a text of the kind that it will meet to "
                "calibration.texts, raise calibration.own, or take a candidate that learns from no text."
            )
        yield f"It loses more on {text} than on the study's own text: {values}. {cure}"


def doubtful_timing(record: TrialRecord, metrics: Metrics) -> Iterator[str]:
    """Repeat the warnings of its latency measurement, and warn of threads that have no core."""
    timed = next((metrics[name] for name in HEADLINES if name in metrics and METRICS[name].family == "latency"), None)
    yield from timed.protocol.get("cautions", ()) if timed is not None else ()
    threads = record.recipe.threads
    if threads and record.provider == "cpu" and (warning := oversubscribed(threads, available_cores())):
        yield warning


def named(name: str) -> str:
    """A metric by its name in constraints, with the kind of text: ``perplexity_ratio on encyclopedia``."""
    metric, text = split_text(name)
    return f"{metric} on {text}" if text else metric


def estimate_text(measurement: Measurement) -> str:
    """A value with its interval, unrounded by any unit: ``1.041, 95 % interval 1.02 to 1.06``."""
    return f"{measurement.value:.4g}, 95 % interval {measurement.low:.4g} to {measurement.high:.4g}"
