"""Refusals before any work: a study whose providers or tasks are absent, or that does not fit this machine."""

from __future__ import annotations

from olivine.evaluators.data.text_source import TextSource, splits
from olivine.evaluators.data.tokenizing import join_messages
from olivine.evaluators.providers import absent
from olivine.passes.errors import UsageError
from olivine.passes.store.cache import check_writable
from olivine.search.builds.study_cache import cache_folder
from olivine.search.config.graph import GraphStudyConfig
from olivine.search.config.language import LmEvalConfig
from olivine.search.planning.estimate.estimate import StudyConfig, find_model, make_estimator
from olivine.search.planning.estimate.estimator import memory_text
from olivine.search.planning.machine_speed import Room
from olivine.search.report.formatting import value_text
from olivine.search.samplers.random_choices import sample_choices
from olivine.search.selection.lm_eval_tasks import asked_tasks

#: Characters of a token; a text of fewer tokens than that is rare.
CHARACTERS_PER_TOKEN = 5
#: Estimates are right within this factor; a study is refused when it is missed by more.
ESTIMATE_ERROR = 1.5


def absent_providers(config: StudyConfig) -> tuple[str, ...]:
    """A sentence for each provider of the study that does not run here."""
    return absent.absent_providers(config.asked_providers(), config.pythons())


def require_providers(config: StudyConfig) -> None:
    """Refuse a study with candidates that could not be measured here.

    Raises:
        UsageError: naming every provider that does not run.
    """
    absent.require_providers(config.asked_providers(), config.pythons())


def require_tasks(section: LmEvalConfig | None) -> None:
    """Refuse a study with tasks that could not be measured at its end, hours later.

    Raises:
        UsageError: when lm-eval is not installed, or a task is unknown or can't be measured or fetched.
    """
    if section is not None:
        asked_tasks(section).load()


def has_text(config: StudyConfig) -> bool:
    """True where the parts of the text that candidates are scored on surely hold the windows of a study.

    Raises:
        UsageError: when the text can't be read.
    """
    if isinstance(config, GraphStudyConfig):
        return True
    evaluation = config.evaluation
    parts = splits(TextSource.of(evaluation.text).documents(join_messages), config.seed)
    tokens = min(sum(map(len, parts[name])) for name in ("select", "confirm")) // CHARACTERS_PER_TOKEN
    return tokens >= evaluation.windows * evaluation.window_tokens


def has_room(config: StudyConfig, room: Room | None = None) -> bool:
    """True where :func:`require_room` refuses nothing."""
    return not _missing(config, room or Room.at(cache_folder(config.cache)))


def require_room(config: StudyConfig, room: Room | None = None) -> None:
    """Refuse a study that surely does not fit: one that needs more than estimates may be wrong by.

    Args:
        config: the study.
        room: free memory and disk; by default what this machine has now.

    Raises:
        UnwritableCache: when the study's cache can't be written.
        UsageError: saying what the study needs and what is free.
    """
    check_writable(cache_folder(config.cache))
    for what, need, free, parts in _missing(config, room or Room.at(cache_folder(config.cache))):
        raise UsageError(
            f"The study does not fit: it takes about {value_text('model_bytes', need)} of {what}{parts}, and "
            f"{value_text('model_bytes', free)} are free. A smaller model or a larger machine would do; "
            "`olivine plan` shows the estimates and what they rest on."
        )


def _missing(config: StudyConfig, room: Room) -> list[tuple[str, float, float, str]]:
    """Name what there is surely too little of: the bytes that a study needs, those that are free, and the parts."""
    estimator = make_estimator(config, find_model(config), sample_choices(config.search_space()))
    memory = estimator.memory_parts()
    needs = (
        ("memory", sum(memory.values()), room.ram_bytes, f" ({memory_text(memory)})"),
        ("disk", estimator.disk_bytes(1), room.disk_bytes, ""),
    )
    return [row for row in needs if row[1] > ESTIMATE_ERROR * row[2]]
