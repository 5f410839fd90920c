"""What choosing among candidates needs to know of a study, whatever kind of model it is about."""

from __future__ import annotations

from typing import Protocol

from olivine.search.config.constraints import Constraint
from olivine.search.config.language import ConfirmConfig, SelectConfig


class StudyConfig(Protocol):
    """The part of a config that says what is wanted."""

    @property
    def objectives(self) -> tuple[str, ...]:
        """Metric names."""
        ...

    @property
    def select(self) -> SelectConfig:
        """The rule that picks one of the front."""
        ...

    @property
    def confirm(self) -> ConfirmConfig:
        """How the front is measured again."""
        ...

    def parsed_constraints(self) -> tuple[Constraint, ...]:
        """The constraints that the search keeps."""
        ...
