"""What the report says of lm-eval's tasks: scores of the base and the confirmed front, and their differences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from olivine.evaluators.measurement import Measurement
from olivine.search.report.folder_tasks import difference_text
from olivine.search.report.formatting import measured_text
from olivine.search.report.study_view import StudyView


def tasks(view: StudyView) -> dict[str, Any] | None:
    """A row per measured model, a column per task and metric; None where no tasks were asked for."""
    found = view.selection.get("tasks")
    if not found:
        return None
    measured: Mapping[str, Mapping[str, Any]] = found["measured"]
    names = list(dict.fromkeys(name for metrics in measured.values() for name in metrics))
    base = measured.get("0", {})
    rows = []
    for number, metrics in sorted(measured.items(), key=lambda pair: int(pair[0])):
        cells = [_cell(name, metrics.get(name), base.get(name) if number != "0" else None) for name in names]
        rows.append({"number": number, "cells": cells})
    return {"names": names, "rows": rows, "failures": found["failures"], "limit": _limit(measured)}


def _cell(name: str, entry: Mapping[str, Any] | None, base: Mapping[str, Any] | None) -> tuple[str, str]:
    """A measurement, and its difference from the base's in words."""
    if entry is None:
        return "", ""
    words = "" if base is None else difference_text(Measurement(**entry), Measurement(**base))
    return measured_text(name, entry), words


def _limit(measured: Mapping[str, Mapping[str, Any]]) -> int | None:
    protocols = [entry["protocol"] for metrics in measured.values() for entry in metrics.values()]
    return next((protocol["limit"] for protocol in protocols), None)
