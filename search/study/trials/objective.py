"""Objective: a choice of axis values -> recipe -> artifact -> measurements -> a trial record.

Cheap stages come before expensive ones. A candidate that breaks a constraint is stopped where that shows, with the
reason; a crash costs its own trial. The next candidate is built while this one is scored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, nullcontext
from dataclasses import dataclass

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.client import ModelProcess
from olivine.passes.base import Scalar
from olivine.passes.errors import PassRefused, SourceError, Unwritable, UsageError
from olivine.passes.quantize.layer_loss import LayerLoss
from olivine.passes.recipe import Recipe
from olivine.search.builds.builder import BuildOutcome
from olivine.search.records import Metrics, TrialRecord
from olivine.search.study.trials.baseline import Baseline
from olivine.search.study.trials.pruning import SIZE, WINDOWS, WindowPruner, rung
from olivine.search.study.trials.tools import StudyTools
from olivine.search.study.trials.trial import TrialInProgress, attempt, broken_constraint
from olivine.search.workloads.stage import ROLES, Role, Stage
from olivine.search.workloads.workload import LearnedFrom

#: Tells the choice of the trial that follows, where it is known already.
Ahead = Callable[[], Mapping[str, Scalar] | None]


@dataclass(frozen=True)
class _StartedBuild:
    """A build that was started for the next trial."""

    name: str
    recipe_key: str
    outcome: Future[BuildOutcome]


def measure_base(tools: StudyTools, baseline: Baseline) -> TrialRecord:
    """Build and measure the base: trial 0.

    Raises:
        UsageError: when text or samples of the study can't be read, or do not fit the model.
    """
    workload = tools.workload

    def run(trial: TrialInProgress) -> None:
        with tools.phase("build", trial):
            tools.models.prepare()
            outcome = baseline.build("0000")
        trial.built(outcome)
        trial.artifact = outcome.artifact
        trial.add([model_bytes(tools, outcome)])
        with tools.phase("load", trial):
            process = baseline.process
            trial.loaded(process)
        for stage in workload.stages(outcome.artifact, {}, "select"):
            with tools.phase(stage.name, trial):
                trial.add(stage.evaluator.evaluate(process, process))

    trial = attempt(
        run,
        lambda trial: loss_of(tools, trial),
        lambda loss: tools.progress.note(f"trial 0: {loss}"),
        blameless=(Unwritable, SourceError, UsageError),
    )
    return trial.record(0, workload.base_choice(), baseline.recipe, tools.rules.constraints, workload.libraries)


class Objective:
    """Builds and measures candidates beside the base.

    Args:
        tools: of the study.
        baseline: the base.
        metrics: of the base, as the search measured it.
        learned: text or samples that passes learn from; None where no candidate learns.
    """

    def __init__(
        self, tools: StudyTools, baseline: Baseline, metrics: Metrics, learned: LearnedFrom | None = None
    ) -> None:
        self.tools, self.baseline, self.learned = tools, baseline, learned
        self.stages: Sequence[Stage] = tools.workload.stages(baseline.artifact, metrics, "select")
        for key in learned.entries if learned is not None else ():
            tools.builder.pin(key)
        self._ahead: _StartedBuild | None = None

    @property
    def learned_key(self) -> str | None:
        """Key of the text or samples that passes learn from, as build requests name it."""
        return None if self.learned is None else self.learned.key

    def build(self, recipe: Recipe, name: str) -> BuildOutcome:
        """Build a recipe, or take it from the cache."""
        return self.tools.builder.build(recipe, name, self.learned_key)

    def expected_losses(self, recipe: Recipe) -> dict[str, LayerLoss]:
        """The loss that each layer of a recipe's float graph is expected to have in every format, by its path.

        Raises:
            PassRefused: when sensitivities can't be learned from the source.
        """
        if self.learned_key is None:
            raise PassRefused("losses are learned from calibration text, and no candidate of this study reads any")
        return self.tools.builder.expected_losses(recipe, self.learned_key)

    def measure(
        self,
        number: int,
        choice: Mapping[str, Scalar],
        roles: Sequence[Role] = ROLES,
        earlier: TrialRecord | None = None,
        ahead: Ahead = lambda: None,
    ) -> TrialRecord:
        """Build and measure one candidate.

        Args:
            number: of the trial.
            choice: its axis values.
            roles: the parts of the trial to do now.
            earlier: record of the parts that other workers have done.
            ahead: tells the choice of the next trial, which is built while this one is scored; not while it is timed.

        Returns:
            The record; one that is ``complete`` without the last part waits for a worker that does it.
        """
        tools = self.tools
        recipe = tools.workload.catalog.compose(choice)
        trial = attempt(
            lambda trial: self._run(number, recipe, trial, roles, ahead),
            lambda trial: _base_died(self.baseline) or loss_of(tools, trial),
            lambda loss: tools.progress.note(f"trial {number}: {loss}"),
            earlier,
        )
        return trial.record(number, choice, recipe, tools.rules.constraints, tools.workload.libraries)

    def _run(self, number: int, recipe: Recipe, trial: TrialInProgress, roles: Sequence[Role], ahead: Ahead) -> None:
        tools = self.tools
        stages = [stage for stage in self.stages if stage.role in roles]
        with tools.phase("build" if "build" in roles else "fetch", trial):
            tools.builder.prepare()
            if stages:
                tools.models.prepare()
            outcome = self._take_build(recipe, f"{number:04d}")
        if "build" in roles:
            trial.built(outcome)
        trial.artifact = outcome.artifact
        trial.add([model_bytes(tools, outcome)])
        if reason := broken_constraint(trial.metrics, tools.rules.constraints):
            trial.drop(SIZE, reason)
        if trial.dropped or not stages:
            return
        with closing(tools.models.take(recipe.provider)) as process:
            with tools.phase("load", trial):
                process.load(outcome.artifact.path)
                trial.loaded(process)
            if (following := ahead()) is not None:
                self._build_ahead(tools.workload.catalog.compose(following), f"{number + 1:04d}")
            for stage in stages:
                if stage.timed and broken_constraint(trial.metrics, tools.rules.constraints):
                    return
                self._measure(stage, process, trial, tools.rules.pruner(recipe.key))
                if trial.dropped:
                    return
            # The next candidate's processes import their libraries only now: nothing disturbs the timing.
            tools.builder.prepare()
            tools.models.prepare()

    def _measure(self, stage: Stage, process: ModelProcess, trial: TrialInProgress, pruner: WindowPruner) -> None:
        tools = self.tools
        evaluator = stage.evaluator if stage.until is None else stage.until(pruner)
        with tools.phase(stage.name, trial), tools.builder.paused() if stage.timed else nullcontext():
            trial.add(evaluator.evaluate(process, self.baseline.process))
        if pruner.broken is not None:
            trial.ladder = rung(WINDOWS, pruner.broken, pruner.audited)
        reason = pruner.dropped or (stage.rung and broken_constraint(trial.metrics, tools.rules.constraints))
        if reason:
            trial.drop(stage.rung, reason)

    def _build_ahead(self, recipe: Recipe, name: str) -> None:
        self._ahead = _StartedBuild(name, recipe.key, self.tools.builder.start(recipe, name, self.learned_key))

    def _take_build(self, recipe: Recipe, name: str) -> BuildOutcome:
        """The build of this trial, which may have been started during the last one."""
        started, self._ahead = self._ahead, None
        if started is not None and (started.name, started.recipe_key) == (name, recipe.key):
            return started.outcome.result()
        if started is not None:
            self.tools.builder.cancel()  # another trial came between
        return self.build(recipe, name)

    def cancel_build(self) -> None:
        """End the build of a trial that will not come."""
        if self._ahead is not None:
            self._ahead = None
            self.tools.builder.cancel()


def model_bytes(tools: StudyTools, outcome: BuildOutcome) -> Measurement:
    """The size of a built model."""
    return Measurement.exact("model_bytes", "bytes", tools.workload.model_bytes(outcome.artifact))


def loss_of(tools: StudyTools, trial: TrialInProgress) -> str | None:
    """A trial's files in the cache, if they are gone, in words; None where they are there."""
    if trial.artifact is not None and not tools.builder.still_has(trial.artifact):
        return "its files in the cache were deleted or changed; it is built again"
    return None


def _base_died(baseline: Baseline) -> str | None:
    return "the base's process died under way; base and candidate are loaded again" if baseline.died else None
