"""The loss of confirmed candidates on each kind of text that they were scored on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from olivine.evaluators.metric import BY_TEXT, on_text, split_text
from olivine.search.records import Metrics
from olivine.search.report.formatting import heading, measured_text


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
