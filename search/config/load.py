"""Loading a study's YAML: every mistake is reported at once, before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from olivine.passes.errors import UsageError
from olivine.search.config.graph import GraphStudyConfig
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.mistakes import Mistake, report
from olivine.search.config.sections import StudyConfig
from olivine.search.config.structure_mistakes import structure_mistakes
from olivine.search.config.yaml_file import override, read_yaml


class ConfigMistakes(UsageError):
    """A YAML with mistakes; the message lists them.

    Attributes:
        mistakes: place and message of each.
    """

    def __init__(self, message: str, mistakes: Sequence[Mistake]) -> None:
        super().__init__(message)
        self.mistakes = tuple(mistakes)


Config = TypeVar("Config", bound=StudyConfig)
#: The configs that there are, one for each kind of model.
AnyConfig = LanguageStudyConfig | GraphStudyConfig


def load_config(path: Path, overrides: Mapping[str, str] | None = None) -> AnyConfig:
    """Read and check a study's YAML.

    Args:
        path: the file.
        overrides: dotted path -> YAML value, as ``--set`` takes them.

    Raises:
        UsageError: naming every mistake in the file, each with its place and the nearest valid word.
    """
    return parse_config(override(read_yaml(path), overrides or {}), str(path))


def parse_config(raw: Mapping[Any, Any], where: str) -> AnyConfig:
    """Check a parsed YAML mapping, of a graph where it has ``inputs:``; ``where`` names it in messages.

    Raises:
        UsageError: as :func:`load_config`.
    """
    if "inputs" in raw:
        return _checked(GraphStudyConfig, raw, where)
    return _checked(LanguageStudyConfig, raw, where)


def _checked(model: type[Config], raw: Mapping[Any, Any], where: str) -> Config:
    mistakes: list[Mistake] = []
    config = None
    try:
        config = model.model_validate(raw)
    except ValidationError as error:
        mistakes += structure_mistakes(error, model)
    mistakes += model.mistakes(raw)
    if mistakes or config is None:
        raise ConfigMistakes(report(mistakes, raw, where), mistakes)
    return config


def language_config(config: StudyConfig) -> LanguageStudyConfig:
    """Refuse any study but that of a language model.

    Raises:
        UsageError: for a study of a plain graph.
    """
    if not isinstance(config, LanguageStudyConfig):
        raise UsageError(f"'{config.name}' is a study of a plain graph; this takes the study of a language model")
    return config
