"""What the report says of lm-eval's tasks: scores of the base and the confirmed front, and their differences."""

from __future__ import annotations

from typing import Any

from olivine.evaluators.measurement import Measurement
from olivine.search.report.folder_tasks import difference_text
from olivine.search.report.formatting import measured_text
from olivine.search.report.study_view import StudyView


def tasks(view: StudyView) -> dict[str, Any] | None:
    """A row per measured model, a column per task and metric; None where no tasks were asked for."""
    scores = view.outcome.tasks
    if scores is None:
        return None
    names = list(dict.fromkeys(name for metrics in scores.measured.values() for name in metrics))
    base = scores.measured.get(0, {})
    rows = []
    for number, metrics in sorted(scores.measured.items()):
        cells = [_cell(metrics.get(name), base.get(name) if number else None) for name in names]
        rows.append({"number": number, "cells": cells})
    limits = [score.protocol["limit"] for metrics in scores.measured.values() for score in metrics.values()]
    return {"names": names, "rows": rows, "failures": scores.failures, "limit": next(iter(limits), None)}


def _cell(score: Measurement | None, base: Measurement | None) -> tuple[str, str]:
    """A score, and its difference from the base's in words."""
    if score is None:
        return "", ""
    return measured_text(score), "" if base is None else difference_text(score, base)
