"""Mistakes in the texts of a study: unknown demo texts, names, and texts that are learned from and scored."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from olivine.evaluators.data.text_source import DEMO_TEXTS
from olivine.passes.errors import did_you_mean
from olivine.passes.sources.source import DEMO
from olivine.search.config.mistakes import Mistake

_OTHERS = "evaluation.other_texts."
_NAME = re.compile(r"[a-z][a-z0-9_]*")


def text_mistakes(raw: Mapping[Any, Any]) -> list[Mistake]:
    """Find demo texts that do not exist, names that fit no column, and other texts that something learns from."""
    learned, others = list(_learned(raw)), list(_others(raw))
    unknown = [
        (place, f"unknown demo '{text}'. {did_you_mean(text, DEMO_TEXTS)}")
        for place, text in [*learned, *others]
        if isinstance(text, str) and text.startswith(DEMO) and text not in DEMO_TEXTS
    ]
    named = [
        (place, "a name takes small letters, digits and '_', and starts with a letter: columns of front.csv carry it")
        for place, _ in others
        if not _NAME.fullmatch(place.removeprefix(_OTHERS))
    ]
    both = [
        (place, f"this is {learned_place} too, which candidates learn from. Name a text that nothing learns from")
        for place, text in others
        for learned_place, learned_text in learned
        if text == learned_text
    ]
    return [*unknown, *named, *both]


def _learned(raw: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Place and value of each text that candidates may learn from."""
    evaluation, calibration = raw.get("evaluation"), raw.get("calibration")
    yield "evaluation.text", evaluation.get("text", "demo:news") if isinstance(evaluation, dict) else "demo:news"
    texts = calibration.get("texts") if isinstance(calibration, dict) else None
    yield from ((f"calibration.texts.{n}", text) for n, text in enumerate(texts if isinstance(texts, list) else ()))


def _others(raw: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Place and value of each text of another kind."""
    evaluation = raw.get("evaluation")
    texts = evaluation.get("other_texts") if isinstance(evaluation, dict) else None
    if isinstance(texts, dict):
        yield from ((f"{_OTHERS}{name}", text) for name, text in texts.items())
