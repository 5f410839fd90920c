"""Summary of a study in words: headline, tiles, protocols."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.metric import HEADLINES, METRICS
from olivine.passes.parity.proof import proof_among, proof_sentence
from olivine.search.records import TrialRecord
from olivine.search.report.formatting import (
    duration_text,
    guesses_text,
    interval_text,
    params_text,
    title,
    value_text,
    varying,
)
from olivine.search.report.study_view import StudyView


def summary(view: StudyView) -> dict[str, Any]:
    """The headline: the selected recipe and its reason, or that the study still runs, or that nothing fits."""
    candidates = [record for record in view.records if record.number > 0]
    counts = {state: sum(r.state == state for r in candidates) for state in ("complete", "infeasible", "failed")}
    seconds = sum(record.build_seconds + record.evaluate_seconds for record in view.records)
    chosen = view.selected
    if chosen is not None:
        status, heading = "selected", params_text(chosen.params, varying(view.records)) or "the base itself"
    elif view.outcome.ended:
        status, heading = "none", "No candidate meets the constraints."
    elif not candidates:
        status, heading = "empty", "No candidate has been measured yet."
    elif not view.members:
        status, heading = "none", "No candidate meets the constraints."
    else:
        status, heading = "running", "This study has not ended: nothing is selected yet."
    return {
        "status": status,
        "heading": heading,
        "reason": view.outcome.reason,
        "warnings": list(view.outcome.warnings),
        "rebuild": view.outcome.rebuild,
        "candidates": len(candidates),
        "counts": {state: count for state, count in counts.items() if count},
        "time": duration_text(seconds),
        "guesses": _guesses(chosen),
        "base": proof_sentence(proof_among(view.base.passes)) if view.base is not None else "",
    }


def _guesses(chosen: TrialRecord | None) -> str:
    """The sentence on what the selected candidate's guesses gain; empty where it makes none."""
    timed = None if chosen is None else chosen.metrics.get("tpot_ms")
    guesses = None if timed is None else timed.protocol.get("guesses")
    if guesses is None:
        return ""
    size, most = guesses["ngram_size"], guesses["max_draft_tokens"]
    return f"It guesses up to {most} tokens at once from n-grams of {size}. {guesses_text(guesses)}."


def tiles(view: StudyView) -> list[dict[str, str]]:
    """The numbers of the selected candidate, each with its interval and what it is relative to."""
    chosen = view.selected
    if chosen is None:
        return []
    return [
        {
            "label": title(metric),
            "value": value_text(metric, chosen.value(metric)),
            "interval": _interval(chosen.metrics[metric]),
            "note": _note(metric, chosen, view.base),
        }
        for metric in HEADLINES
        if metric in chosen.metrics
    ]


def _interval(measurement: Measurement) -> str:
    text = interval_text(measurement)
    return text.partition("(")[2].rstrip(")")


def _note(metric: str, chosen: TrialRecord, base: TrialRecord | None) -> str:
    """The measurement behind a tile's number, and the base's beside it."""
    if metric == "model_bytes":
        if base is None or metric not in base.metrics:
            return ""
        own, reference = chosen.value(metric), base.value(metric)
        return f"{reference / own:.1f}x smaller than the base's {value_text(metric, reference)}"
    behind = METRICS[metric].ratio_of
    if behind not in chosen.metrics:
        return ""
    own, relation = chosen.value(behind), chosen.value(metric)
    # The base as it was beside this measurement: its record is of another text, and of another minute.
    reference = own / relation if METRICS[metric].direction == "minimize" else own * relation
    return f"{title(behind)} {value_text(behind, own)}, base {value_text(behind, reference)}"


#: Parts of a protocol that are of one metric alone; they stand in the record.
OF_ONE_METRIC = ("samples", "neighbours")


def protocols(view: StudyView) -> list[dict[str, Any]]:
    """The settings that the shown trial was measured with; metrics that share a protocol stand together."""
    shown = view.selected or next(iter(view.members), None) or view.base
    if shown is None:
        return []
    groups: dict[str, list[str]] = {}
    for metric, measured in shown.metrics.items():
        protocol = {k: v for k, v in measured.protocol.items() if k not in OF_ONE_METRIC}
        if protocol:
            groups.setdefault(json.dumps(protocol, sort_keys=True, default=str), []).append(metric)
    return [
        {
            "trial": shown.number,
            "metrics": [title(metric) for metric in metrics],
            "settings": flat(json.loads(text)),
        }
        for text, metrics in groups.items()
    ]


def flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as (dotted name, text) rows, without unset values; long lists are cut."""
    rows: list[tuple[str, str]] = []
    for name, value in settings.items():
        if value is None:
            continue
        if isinstance(value, Mapping):
            rows += flat(value, f"{prefix}{name}.")
            continue
        if name.endswith("_bytes") and isinstance(value, int | float):
            text = value_text("model_bytes", float(value))
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
        rows.append((prefix + name, text if len(text) <= 200 else text[:197] + "..."))
    return rows
