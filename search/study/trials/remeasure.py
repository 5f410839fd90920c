"""Measure candidates again for confirmation: in fresh processes, on the split that the search never saw."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.quality.unpruned import open_scored
from olivine.passes.recipe import Recipe
from olivine.search.records import Metrics
from olivine.search.study.trials.objective import Objective, model_bytes
from olivine.search.workloads.stage import Evaluator


class Remeasurer:
    """Measures recipes beside the base of a study.

    Args:
        objective: of the search, whose base, builds and processes are used.
        metrics: of the base, as the search measured it.
    """

    def __init__(self, objective: Objective, metrics: Metrics) -> None:
        self._objective = objective
        self._stages = objective.tools.workload.stages(objective.baseline.artifact, metrics, "confirm")

    def remeasure(self, recipe: Recipe, name: str) -> dict[str, Measurement]:
        """Every metric of a recipe; ``name`` names the files of its build.

        Raises:
            OlivineError: when it does not build or run.
        """
        outcome = self._objective.build(recipe, name)
        measurements = [model_bytes(self._objective.tools, outcome)]
        with self._open(recipe, outcome.artifact.path) as process:
            for stage in self._stages:
                measurements += stage.evaluator.evaluate(process, self._objective.baseline.process)
        return {measurement.metric: measurement for measurement in measurements}

    def retime(self, recipe: Recipe, name: str, repetition: int) -> list[Measurement]:
        """Latency alone, with other random choices than in earlier repetitions; as :meth:`remeasure`."""
        (evaluator,) = [stage.again(repetition) for stage in self._stages if stage.again is not None]
        return self._time(recipe, name, evaluator)

    @property
    def base_is_usual(self) -> bool:
        """True where the base has the threads that its runtime takes by default."""
        return self._usual.key == self._objective.baseline.recipe.key

    def time_usual(self) -> list[Measurement]:
        """Latency of the base with the threads that its runtime takes by default; as :meth:`remeasure`."""
        (evaluator,) = [stage.evaluator for stage in self._objective.stages if stage.timed]
        return self._time(self._usual, "timing", evaluator)

    @property
    def _usual(self) -> Recipe:
        workload = self._objective.tools.workload
        return workload.catalog.compose({**workload.base_choice(), "threads": workload.usual_threads})

    @contextmanager
    def scored(self, recipe: Recipe, name: str) -> Iterator[tuple[ModelProcess, Path]]:
        """A fresh process that scores a recipe's model, and the folder of the model; as :meth:`remeasure`."""
        folder = self._objective.build(recipe, name).artifact.path
        with open_scored(folder, **self._objective.tools.models.options.of(recipe.provider)) as process:
            yield process, folder

    def _time(self, recipe: Recipe, name: str, evaluator: Evaluator) -> list[Measurement]:
        with self._open(recipe, self._objective.build(recipe, name).artifact.path) as process:
            return evaluator.evaluate(process, self._objective.baseline.process)

    def _open(self, recipe: Recipe, folder: Path) -> ModelProcess:
        return self._objective.tools.models.open(recipe.provider, folder)
