"""Warm start: the front of an earlier study as the first candidates of a new one, ``enqueue: [{from: STUDY_DIR}]``.

What was good for one model of an architecture family mostly is for its siblings. Nothing is taken over but the
choices: every one is built and measured anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from olivine.passes.base import Scalar
from olivine.passes.errors import UsageError
from olivine.search.config.enqueue import earlier_study
from olivine.search.config.sections import StudyConfig
from olivine.search.config.space import Space
from olivine.search.report.study_view import read_view
from olivine.search.study_dir import StudyDir

AnyConfig = TypeVar("AnyConfig", bound=StudyConfig)


def warm_started(config: AnyConfig) -> AnyConfig:
    """The config with the fronts of earlier studies in place of the entries that name their folders.

    The choices of a front come after those that the config names itself, fastest first, each once.

    Raises:
        UsageError: when a folder is no study, or nothing on its front lies in the search space.
    """
    named = [entry for entry in config.enqueue if earlier_study(entry) is None]
    earlier: list[dict[str, Scalar]] = []
    for entry in config.enqueue:
        if (folder := earlier_study(entry)) is not None:
            choices = _front_choices(folder, config.search_space())
            earlier += [choice for choice in choices if choice not in earlier]
    return config.model_copy(update={"enqueue": (*named, *earlier)})


def _front_choices(folder: str, space: Space) -> list[dict[str, Scalar]]:
    """The choices on the front of an earlier study that ``space`` could have drawn; other axes keep usual values."""
    members = read_view(StudyDir.open(Path(folder).expanduser())).members
    choices = [choice for member in members if (choice := _within(member.params, space)) is not None]
    if not choices:
        count = f"none of its {len(members)} front members" if members else "it has no front yet, so nothing"
        raise UsageError(f"enqueue: from: {folder}: {count} lies in this search space. Widen space:, or drop it.")
    return choices


def _within(params: Mapping[str, Scalar], space: Space) -> dict[str, Scalar] | None:
    """The part of a choice that this study searches, or None where that lies outside of its space.

    What the base has too, such as the context, is this study's own: a front is good for another one as well.
    """
    named = {domain.axis.name for domain in space.domains if domain.searched or not domain.axis.base_inherits}
    choice = {name: value for name, value in params.items() if name in named}
    return choice if space.contains(space.catalog.canonical({**space.usual(), **choice})) else None
