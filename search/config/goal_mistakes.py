"""Mistakes in what a study wants: its objectives, its constraints, and the rule that selects from the front."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from olivine.passes.errors import UsageError, did_you_mean
from olivine.search.config.constraints import contradictions, parse_constraint
from olivine.search.config.mistakes import Mistake


def goal_mistakes(raw: Mapping[Any, Any], default_objectives: Sequence[str], known: Sequence[str]) -> list[Mistake]:
    """Find mistakes in objectives, constraints and selection.

    Args:
        raw: the parsed YAML.
        default_objectives: the objectives where it names none.
        known: the metrics that such a study has.
    """
    objectives = _strings(raw.get("objectives"))
    names = [name for _, name in objectives]
    mistakes = [
        (f"objectives.{index}", f"unknown metric '{name}'. {did_you_mean(name, known)}")
        for index, name in objectives
        if name not in known
    ]
    mistakes += [
        (f"objectives.{index}", f"names '{name}' twice")
        for position, (index, name) in enumerate(objectives)
        if name in names[:position]
    ]
    mistakes += _constraint_mistakes(_strings(raw.get("constraints")), "constraints", known)
    if isinstance(select := raw.get("select"), dict):
        mistakes += _select_mistakes(select, names or default_objectives, known)
    return mistakes


def goal_metrics(raw: Mapping[Any, Any]) -> Iterator[tuple[str, str]]:
    """Yield (place, metric) wherever an objective, a constraint or the selection names a metric."""
    select = raw.get("select")
    rule: Mapping[Any, Any] = select if isinstance(select, dict) else {}
    yield from ((f"objectives.{index}", name) for index, name in _strings(raw.get("objectives")))
    yield from (("select.metric", name) for _, name in _strings([rule.get("metric")]))
    for place, texts in (("constraints", raw.get("constraints")), ("select.where", rule.get("where"))):
        yield from ((f"{place}.{index}", re.split(r"\W", text.strip())[0]) for index, text in _strings(texts))


def _select_mistakes(select: Mapping[Any, Any], objectives: Sequence[str], known: Sequence[str]) -> list[Mistake]:
    mistakes = _constraint_mistakes(_strings(select.get("where")), "select.where", known)
    if isinstance(metric := select.get("metric"), str) and metric not in known:
        mistakes.append(("select.metric", f"unknown metric '{metric}'. {did_you_mean(metric, known)}"))
    weights = select.get("weights") or {}
    if not isinstance(weights, dict):
        return mistakes
    mistakes += [
        (f"select.weights.{name}", f"is no objective of this study. {did_you_mean(name, objectives)}")
        for name in weights
        if name not in objectives
    ]
    by = select.get("by", "objective")
    if by == "weights" and not any(weights.values()):
        lack = "are all 0" if weights else "are required by 'by: weights'"
        mistakes.append(("select.weights", f"{lack}: give one for each of {', '.join(objectives)}"))
    if by != "weights" and weights:
        mistakes.append(("select.weights", f"have no effect with 'by: {by}'; write 'by: weights'"))
    if by in ("knee", "weights") and select.get("metric") is not None:
        mistakes.append(("select.metric", f"has no effect with 'by: {by}'; write 'by: objective'"))
    return mistakes


def _strings(value: object) -> list[tuple[int, str]]:
    """The texts of a list with their places in it."""
    items = enumerate(value) if isinstance(value, list) else ()
    return [(index, item) for index, item in items if isinstance(item, str)]


def _constraint_mistakes(texts: Sequence[tuple[int, str]], place: str, known: Sequence[str]) -> list[Mistake]:
    mistakes, constraints = [], []
    for index, text in texts:
        try:
            constraints.append(parse_constraint(text, known))
        except UsageError as error:
            mistakes.append((f"{place}.{index}", str(error)))
    return mistakes + [(place, message) for message in contradictions(constraints)]
