"""Measurer: the part of a running study that measures candidates again, for confirmation, race and ablation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeVar

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.client import ModelProcess
from olivine.passes.errors import OlivineError, SourceError, Unwritable
from olivine.passes.recipe import Recipe

Result = TypeVar("Result")


class Measurer(Protocol):
    """Measures recipes in fresh processes beside the base, on text or samples that the search has not seen.

    ``name`` is that of the files of a build. All raise OlivineError when a recipe no longer builds or runs.
    """

    def remeasure(self, recipe: Recipe, name: str) -> dict[str, Measurement]:
        """Every metric of a recipe."""
        ...

    def retime(self, recipe: Recipe, name: str, repetition: int) -> list[Measurement]:
        """Latency alone, with other random choices than in earlier repetitions."""
        ...

    @property
    def base_is_usual(self) -> bool:
        """True where the base has the threads that its runtime takes by default."""
        ...

    def time_usual(self) -> list[Measurement]:
        """Latency of the base with the threads that its runtime takes by default."""
        ...

    def scored(self, recipe: Recipe, name: str) -> AbstractContextManager[tuple[ModelProcess, Path]]:
        """A fresh process that scores a recipe's model, and the folder of the model."""
        ...


def try_to_measure(measure: Callable[[], Result]) -> Result | OlivineError:
    """Measurements that the end of a study can do without, or the error with which the model failed.

    Raises:
        Unwritable: when results can't be written, which is no model's fault.
        SourceError: when the study's model is gone.
    """
    try:
        return measure()
    except (Unwritable, SourceError):
        raise
    except OlivineError as error:
        return error
