"""Sections of the report: confirmation, tasks, dropped candidates, ablation and threads, as rows of text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.metric import BY_TEXT, HEADLINES, METRICS, on_text, split_text
from olivine.evaluators.peers.summary import from_json, headings
from olivine.evaluators.quality.text_quality import TextQuality
from olivine.search.records import Metrics, TrialRecord
from olivine.search.report.folder_tables import difference_text
from olivine.search.report.formatting import heading, interval_text, measured_text, scalar_text, title
from olivine.search.report.study_view import StudyView
from olivine.search.report.verdict import ratio
from olivine.search.study_dir import StudyDir

#: Metrics that a search can overrate, where they were measured.
COMPARED = [name for name in HEADLINES if METRICS[name].family != "size"]
#: A mean change below this is not worth a sentence of its own.
UNMOVED = 0.005


def confirmation(view: StudyView) -> dict[str, Any] | None:
    """A row for each confirmed member: values of the search, confirmed ones; None before anything was confirmed."""
    outcome = view.outcome
    compared = [metric for metric in COMPARED if any(metric in fresh for fresh in outcome.confirmed.values())]
    rows = []
    for record in view.records:
        fresh = outcome.confirmed.get(record.number)
        if fresh is None:
            continue
        probability = outcome.dominated_probability.get(record.number)
        rows.append(
            {
                "number": record.number,
                "cells": [(measured_text(record.metrics.get(m)), measured_text(fresh.get(m))) for m in compared],
                "dominated": "breaks a constraint" if probability is None else f"{100 * probability:.0f} %",
                "measured": outcome.measured.get(record.number, 1),
            }
        )
    if not rows:
        return None
    changes = [moved(metric, mean) for metric, mean in outcome.shrinkage.items()]
    return {"metrics": compared, "rows": rows, "shrinkage": changes}


def moved(metric: str, mean: float) -> str:
    """The mean change of a metric in confirmation, in words."""
    if abs(mean - 1) < UNMOVED:
        return f"{title(metric)} unchanged"
    return f"{title(metric)} {abs(mean - 1):.1%} {'higher' if mean > 1 else 'lower'}"


def tasks(view: StudyView) -> dict[str, Any] | None:
    """A row for each scored model, a column for each task and metric; None where no tasks were asked for."""
    scores = view.outcome.tasks
    if scores is None:
        return None
    names = list(dict.fromkeys(name for metrics in scores.measured.values() for name in metrics))
    base = scores.measured.get(0, {})
    rows = []
    for number, metrics in sorted(scores.measured.items()):
        cells = [_score(metrics.get(name), base.get(name) if number else None) for name in names]
        rows.append({"number": number, "cells": cells})
    limits = [score.protocol["limit"] for metrics in scores.measured.values() for score in metrics.values()]
    return {"names": names, "rows": rows, "failures": scores.failures, "limit": next(iter(limits), None)}


def _score(score: Measurement | None, base: Measurement | None) -> tuple[str, str]:
    """A score, and its difference from the base's in words."""
    if score is None:
        return "", ""
    return measured_text(score), "" if base is None else difference_text(score, base)


def dropped(view: StudyView) -> dict[str, Any] | None:
    """A row for each candidate that a cheap step dropped, or would have but for the audit; None where there is none."""
    stopped = [record for record in view.records if record.ladder]
    if not stopped:
        return None
    checked, wrong = audited(stopped)
    rows = []
    for record in stopped:
        audit = "kept the constraint after all" if record in wrong else "rightly" if record in checked else ""
        step, reason = record.ladder["step"], record.ladder["reason"]
        rows.append({"number": record.number, "step": step, "reason": reason, "audit": audit})
    count = sum(not record.ladder["audited"] for record in stopped)
    audit = "none was drawn for an audit, so this study does not tell how often the first windows are wrong"
    if checked:
        audit = (
            f"the first windows would have dropped {len(checked)} more, scored on the full text as an audit: "
            f"they were wrong with {len(wrong)}"
        )
    return {"rows": rows, "sentence": f"{count} dropped before they were timed; {audit}."}


def audited(records: Sequence[TrialRecord]) -> tuple[list[TrialRecord], list[TrialRecord]]:
    """Candidates that the first windows dropped and the full text judged anyway; those of them that keep their limits.

    Windows judge the constraints on the metrics of ``TextQuality`` alone: a candidate that keeps those was dropped
    wrongly, whatever else it breaks.
    """
    checked = [record for record in records if record.ladder.get("audited") and record.state != "failed"]
    return checked, [record for record in checked if _keeps_quality(record)]


def _keeps_quality(record: TrialRecord) -> bool:
    return all(excess <= 0 for text, excess in record.constraints.items() if text.split()[0] in TextQuality.metrics)


def ablation(view: StudyView) -> dict[str, Any] | None:
    """The selected recipe, and a row for it without each of its ingredients; None where that was not measured."""
    chosen, left_out = view.selected, view.outcome.ablation
    if chosen is None or not left_out:
        return None
    metrics = [name for name in chosen.metrics if any(name in part.metrics for part in left_out)]

    def row(label: str, measured: Metrics, reason: str = "") -> dict[str, Any]:
        return {"label": label, "cells": [measured_text(measured.get(name)) for name in metrics], "reason": reason}

    rows = [row("as selected", chosen.metrics)]
    for part in left_out:
        label = f"{part.axis} {scalar_text(part.ablated_value)} instead of {scalar_text(part.value)}"
        rows.append(row(label, part.metrics, part.reason))
    return {"metrics": metrics, "rows": rows}


def default_threads(view: StudyView) -> list[dict[str, str]]:
    """Speedups of the selected candidate over the base on GenAI's default of one thread, and the share of threads.

    selection.json holds the speedups of that slow base over the study's base; they are below 1.
    """
    chosen = view.selected
    if chosen is None:
        return []
    rows = []
    for metric, slow in view.outcome.default_threads.items():
        if (ours := chosen.metrics.get(metric)) is not None:
            total, threads = ratio(slow, ours), ratio(slow, Measurement.exact(metric, "ratio", 1.0))
            texts = [interval_text(replace(ours, **asdict(gain))) for gain in (total, threads)]
            rows.append({"title": title(metric), "total": texts[0], "threads": texts[1]})
    return rows


def texts_of(found: Iterable[Metrics]) -> dict[str, str]:
    """Names of the kinds of text, the study's own first -> the suffix of their metrics, empty for the study's own.

    Empty where there is one kind alone.
    """
    measured = {name: metric for metrics in found for name, metric in metrics.items()}
    others = {text: text for name in measured if (text := split_text(name)[1])}
    own = next((str(measured[name].protocol.get("text", "its own text")) for name in BY_TEXT if name in measured), None)
    return {own: "", **others} if own is not None and others else {}


def loss_by_text(metrics: Metrics) -> list[str]:
    """A line for each kind of text that a candidate was scored on; none where it was scored on one alone."""
    lines = []
    for text, suffix in texts_of([metrics]).items():
        found = [(metric, metrics.get(_name(metric, suffix))) for metric in BY_TEXT]
        values = ", ".join(f"{heading(metric)} {measured_text(value)}" for metric, value in found if value is not None)
        lines.append(f"loss on {text}: {values}")
    return lines


def table_by_text(confirmed: Mapping[int, Metrics]) -> dict[str, Any] | None:
    """A row for each confirmed member, columns for each kind of text; None where there is one kind alone."""
    texts = texts_of(confirmed.values())
    if not texts:
        return None
    names = [_name(metric, suffix) for suffix in texts.values() for metric in BY_TEXT]
    headings = [f"{heading(metric)} on {text}" for text in texts for metric in BY_TEXT]
    rows = [
        {"number": number, "cells": [measured_text(metrics.get(name)) for name in names]}
        for number, metrics in confirmed.items()
    ]
    return {"headings": headings, "rows": rows}


def _name(metric: str, suffix: str) -> str:
    return on_text(metric, suffix) if suffix else metric


def peers_section(study: StudyDir) -> dict[str, Any] | None:
    """The exported selection beside other engines' models: headings and rows; None where nothing was compared."""
    if not study.peers_path.is_file():
        return None
    rows = from_json(study.peers_path.read_text(encoding="utf-8"))
    return {"headings": headings(rows), "rows": [row.cells() for row in rows]}
