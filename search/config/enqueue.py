"""``enqueue:``: the choices that a study measures first, and the earlier studies whose fronts it begins with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from olivine.passes.catalog import Catalog
from olivine.search.config.mistakes import Mistake
from olivine.search.config.space_mistakes import choice_mistakes, differing_from_base, no_axis

_KEY = "from"


def earlier_study(entry: object) -> str | None:
    """The folder that an entry ``{from: STUDY_DIR}`` names; None for a choice of axis values."""
    if isinstance(entry, dict) and list(entry) == [_KEY] and isinstance(entry[_KEY], str):
        return str(entry[_KEY])
    return None


def agreed_values(enqueue: object, catalog: Catalog) -> dict[str, Any]:
    """The values of axes with a newer default that all choices of an ``enqueue:`` section that name them agree on."""
    named = {name: axis for name, axis in catalog.axes.items() if axis.newer_default is not None}
    choices = [entry for entry in (enqueue if isinstance(enqueue, list | tuple) else []) if isinstance(entry, dict)]
    values = {name: [choice[name] for choice in choices if name in choice] for name in named}
    return {name: found[0] for name, found in values.items() if found and all(v is found[0] for v in found)}


def enqueue_mistakes(enqueue: object, space: Mapping[Any, Any], catalog: Catalog) -> list[Mistake]:
    """Find every mistake in the choices of an ``enqueue:`` section.

    Args:
        enqueue: the raw section.
        space: the raw ``space:``.
        catalog: of the kind of model.
    """
    mistakes: list[Mistake] = []
    space = {**agreed_values(enqueue, catalog), **space}
    for index, entry in enumerate(enqueue if isinstance(enqueue, list) else []):
        place = f"enqueue.{index}"
        if not isinstance(entry, dict) or earlier_study(entry) is not None:
            continue
        mistakes += choice_mistakes(entry, place, space, catalog) if entry else [(place, no_axis(catalog))]
        mistakes += differing_from_base(entry, place, space, catalog)
    return mistakes
