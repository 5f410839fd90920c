"""What the report says of confirmation: the search's own values beside the confirmed ones, and who is nearly tied."""

from __future__ import annotations

from typing import Any

from olivine.evaluators.metric import HEADLINES, METRICS
from olivine.search.report.formatting import measured_text, title
from olivine.search.report.study_view import StudyView

#: Metrics that a search can overrate, where they were measured.
COMPARED = [name for name in HEADLINES if METRICS[name].family != "size"]
#: A mean change below this is not worth a sentence of its own.
UNMOVED = 0.005


def confirmation(view: StudyView) -> dict[str, Any] | None:
    """A row per confirmed member, and what the search believed too much; None before anything was confirmed."""
    outcome = view.outcome
    confirmed = outcome.confirmed
    compared = [metric for metric in COMPARED if any(metric in fresh for fresh in confirmed.values())]
    rows = []
    for record in view.records:
        fresh = confirmed.get(record.number)
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
    return {
        "metrics": compared,
        "rows": rows,
        "shrinkage": [moved(metric, ratio) for metric, ratio in outcome.shrinkage.items()],
    }


def moved(metric: str, ratio: float) -> str:
    """How far confirmation moved a metric on average, in words."""
    if abs(ratio - 1) < UNMOVED:
        return f"{title(metric)} unchanged"
    return f"{title(metric)} {abs(ratio - 1):.1%} {'higher' if ratio > 1 else 'lower'}"
