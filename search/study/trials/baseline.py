"""The float base of a study: trial 0, which every candidate is compared with and which stays loaded beside them."""

from __future__ import annotations

from typing import Self

from olivine.evaluators.process.client import ModelProcess
from olivine.passes.artifact import ModelArtifact
from olivine.passes.recipe import Recipe
from olivine.search.builds.builder import Builder, BuildOutcome
from olivine.search.study.trials.model_pool import ModelPool


class Baseline:
    """The base: built and loaded when it is first asked for, and again where the cache or its process lost it.

    Args:
        builder: builds it.
        models: give it a process.
        recipe: its steps.
    """

    def __init__(self, builder: Builder, models: ModelPool, recipe: Recipe) -> None:
        self.recipe = recipe
        self._builder, self._models = builder, models
        self._artifact: ModelArtifact | None = None
        self._process: ModelProcess | None = None

    def build(self, name: str = "base") -> BuildOutcome:
        """Build it, and keep it in the cache; ``name`` names the files of the build.

        Raises:
            OlivineError: when it does not build.
        """
        self.close()
        outcome = self._builder.build(self.recipe, name)
        self._builder.pin(outcome.artifact.key)
        self._artifact = outcome.artifact
        return outcome

    @property
    def artifact(self) -> ModelArtifact:
        """Its folder in the cache."""
        if self._artifact is not None and self._builder.still_has(self._artifact):
            return self._artifact
        return self.build().artifact

    @property
    def process(self) -> ModelProcess:
        """The process that has it loaded."""
        if self._process is None or not self._process.usable:
            artifact = self.artifact
            self.close()
            process = self._models.take(self.recipe.provider)
            try:
                process.load(artifact.path)
            except BaseException:
                process.close()
                raise
            self._process = process
        return self._process

    def load(self) -> None:
        """Build and load it now."""
        _ = self.process

    @property
    def died(self) -> bool:
        """True where it was loaded, and its process can take no request any more."""
        return self._process is not None and not self._process.usable

    def close(self) -> None:
        """End its process."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
