"""Warm start: the front of an earlier study as the first candidates of a new one, ``enqueue: [{from: STUDY_DIR}]``.

What was good for one model of an architecture family mostly is for its siblings. Nothing is taken over but the
choices: every one is built and measured anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import UsageError
from olivine.search.config.space import Space
from olivine.search.records import StudyDir
from olivine.search.report.study_view import read_view

KEY = "from"


def earlier_studies(raw: dict[Any, Any]) -> list[str]:
    """Take the ``{from: STUDY_DIR}`` entries out of a raw YAML's ``enqueue:``, and return the folders they name."""
    entries = raw.get("enqueue")
    if not isinstance(entries, list):
        return []
    named = [entry for entry in entries if _names_a_study(entry)]
    if named:
        raw["enqueue"] = [entry for entry in entries if not _names_a_study(entry)]
    return [entry[KEY] for entry in named]


def _names_a_study(entry: object) -> bool:
    return isinstance(entry, dict) and list(entry) == [KEY] and isinstance(entry[KEY], str)


def front_choices(folders: Sequence[str], space: Space) -> list[dict[str, Scalar]]:
    """The choices on the fronts of earlier studies that ``space`` could have drawn, fastest first, each once.

    Axes that ``space`` does not name keep its usual values.

    Raises:
        UsageError: when a folder is no study, or nothing on its front lies in ``space``.
    """
    found: list[dict[str, Scalar]] = []
    for folder in folders:
        members = read_view(StudyDir.open(Path(folder).expanduser())).members
        fitting = [choice for member in members if (choice := _within(member.params, space)) is not None]
        if not fitting:
            count = f"none of its {len(members)} front members" if members else "it has no front yet, so nothing"
            raise UsageError(f"enqueue: from: {folder}: {count} lies in this search space. Widen space:, or drop it.")
        found += [choice for choice in fitting if choice not in found]
    return found


def _within(params: Mapping[str, Scalar], space: Space) -> dict[str, Scalar] | None:
    named = {domain.axis.name for domain in space.domains}
    choice = {name: value for name, value in params.items() if name in named}
    return choice if space.contains(LANGUAGE.canonical({**space.usual(), **choice})) else None
