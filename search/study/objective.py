"""Objective: a choice of axis values -> recipe -> artifact -> measurements -> a trial record.

Cheap before dear: size, then quality window by window, then latency. A candidate that breaks a constraint is
stopped where that shows, with the reason; a crash costs its own trial.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from olivine.evaluators.latency.decoder import PairedDecoderLatency
from olivine.evaluators.measurement import Measurement
from olivine.evaluators.memory import Memory
from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.process.messages import Loaded
from olivine.evaluators.quality.text_quality import TextQuality
from olivine.evaluators.quality.unpruned import open_scored, run_quality
from olivine.passes.artifact import ModelArtifact
from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.quantize.layer_loss import LayerLoss
from olivine.passes.recipe import Recipe
from olivine.passes.store.secrets import masked
from olivine.search.builds.builder import Builder
from olivine.search.builds.client import BuildOutcome
from olivine.search.config.constraints import Constraint
from olivine.search.records import TrialRecord
from olivine.search.report.progress import Progress
from olivine.search.study.pruning import SIZE, TEXT, WINDOWS, PruningRules, rung
from olivine.search.study.trial import Phase, TrialInProgress, attempt, lost

#: Tells the choice of the trial that follows, where it is known already.
Ahead = Callable[[], Mapping[str, Scalar] | None]

#: The parts of a trial, in their order; a worker may do only some of them.
STAGES = ("build", "quality", "latency")
LIBRARIES = ("olivine", "onnxruntime", "onnxruntime-genai", "onnx-ir", "torch", "transformers", "optuna")


@dataclass(frozen=True)
class Evaluators:
    """The evaluators of one study, cheap ones first."""

    memory: Memory
    quality: TextQuality
    latency: PairedDecoderLatency


class Objective:
    """Builds and measures candidates beside the resident base.

    Args:
        builder: builds recipes.
        evaluators: makes what measures, once the base is built: its tokenizer cuts the text.
        constraints: what a candidate has to keep.
        progress: told of each phase.
        process_options: limits and loop of the model processes, as :meth:`ModelProcess.start` takes them.
        pythons: provider -> interpreter that runs its models, where it is another one than this.
        stages: the parts of a trial that this process does; one that only builds loads no model.
        ladder: drops candidates on few windows; by default all windows are scored.
    """

    def __init__(
        self,
        builder: Builder,
        evaluators: Callable[[ModelArtifact], Evaluators],
        constraints: tuple[Constraint, ...],
        progress: Progress,
        process_options: Mapping[str, Any],
        stages: Sequence[str] = STAGES,
        pythons: Mapping[str, str] | None = None,
        ladder: PruningRules | None = None,
    ) -> None:
        self._pythons = dict(pythons or {})
        self._ladder = ladder or PruningRules()
        self.stages = tuple(stages)
        self._builder, self._make_evaluators, self._constraints = builder, evaluators, constraints
        self._evaluators: Evaluators | None = None
        self._progress, self._process_options = progress, dict(process_options)
        self.base: ModelProcess | None = None
        self._base_artifact: ModelArtifact | None = None
        self._base_recipe: Recipe | None = None
        self._spare: ModelProcess | None = None
        #: Name, recipe key and result of the build that runs ahead.
        self._following: tuple[str, str, Future[BuildOutcome]] | None = None

    @property
    def evaluators(self) -> Evaluators:
        """What measures; there from the base on."""
        if self._evaluators is None:
            raise RuntimeError("the base (trial 0) comes before any candidate")
        return self._evaluators

    def load_base(self, choice: Mapping[str, Scalar]) -> ModelArtifact:
        """Build and load the base without measuring it: a resumed study knows its numbers already."""
        recipe = self._base_recipe = LANGUAGE.compose(choice)
        artifact = self._builder.build(recipe, "base").artifact
        self._builder.keep(artifact.key)
        self._evaluators, self._base_artifact = self._make_evaluators(artifact), artifact
        self.close()
        if self._runs_models:
            self.base = ModelProcess.open(artifact.path, **self._options(recipe))
        return artifact

    def base_artifact(self) -> ModelArtifact:
        """The base's folder; there from trial 0 on, and built again if the cache has lost it."""
        if self._base_artifact is None or self._base_recipe is None:
            raise RuntimeError("the base (trial 0) comes before any candidate")
        if not self._builder.still_has(self._base_artifact):
            self._base_artifact = self._builder.build(self._base_recipe, "base").artifact
        return self._base_artifact

    def calibrate(self, key: str) -> None:
        """From now on, recipes that learn from text are built with the windows stored under ``key``, which stay."""
        self._builder.keep(key)
        self._builder.calibration = key

    def build(self, recipe: Recipe, name: str) -> ModelArtifact:
        """Build a recipe, or take it from the cache."""
        return self._builder.build(recipe, name).artifact

    def forecast(self, recipe: Recipe) -> dict[str, LayerLoss]:
        """What each linear layer of the float graph is expected to lose in every format, by its path.

        Raises:
            PassRefused: when sensitivities can't be learned from the source.
        """
        return self._builder.forecast(recipe)

    def remeasure(self, recipe: Recipe, name: str, evaluators: Evaluators) -> dict[str, Measurement]:
        """Every metric of a measured candidate anew, with other evaluators, in a fresh process.

        Raises:
            OlivineError: when it no longer builds or runs.
        """
        artifact = self.build(recipe, name)
        with ModelProcess.open(artifact.path, **self._options(recipe)) as process:
            found = evaluators.memory.evaluate(process, self._base())
            found += run_quality(evaluators.quality, process, self._base(), self._options(recipe)).measurements
            found += evaluators.latency.evaluate(process, self._base())
        return {m.metric: m for m in found}

    @contextmanager
    def scored(self, recipe: Recipe, name: str) -> Iterator[tuple[ModelProcess, Path]]:
        """A fresh process that scores a recipe's model, and the model's folder; built again if the cache has lost it.

        Raises:
            OlivineError: when it no longer builds or loads.
        """
        artifact = self.build(recipe, name)
        with open_scored(artifact.path, **self._options(recipe)) as process:
            yield process, artifact.path

    def retime(self, recipe: Recipe, name: str, latency: PairedDecoderLatency) -> list[Measurement]:
        """Latency alone of a measured candidate, in a fresh process.

        Raises:
            OlivineError: when it no longer builds or runs.
        """
        artifact = self.build(recipe, name)
        with ModelProcess.open(artifact.path, **self._options(recipe)) as process:
            return latency.evaluate(process, self._base())

    def time_choice(self, choice: Mapping[str, Scalar]) -> list[Measurement]:
        """Latency alone of a choice, beside the base."""
        recipe = LANGUAGE.compose(choice)
        artifact = self.build(recipe, "timing")
        with ModelProcess.open(artifact.path, **self._options(recipe)) as process:
            return self.evaluators.latency.evaluate(process, self._base())

    @property
    def _runs_models(self) -> bool:
        return self.stages != ("build",)

    def measure(
        self,
        number: int,
        choice: Mapping[str, Scalar],
        stages: Sequence[str] | None = None,
        earlier: TrialRecord | None = None,
        ahead: Ahead = lambda: None,
    ) -> TrialRecord:
        """Build and measure one candidate; trial 0 is the base, which stays loaded for the others.

        Args:
            number: of the trial.
            choice: its axis values.
            stages: the parts to do now; by default all that this process does.
            earlier: what other workers found in the parts before.
            ahead: tells the choice of the next trial, which is built while this one is scored; not while it is timed.

        Returns:
            The record; one that is ``complete`` without the last stage waits for a worker that does it.
        """
        recipe = LANGUAGE.compose(choice)
        started = datetime.now(UTC).isoformat(timespec="seconds")
        parts = self.stages if stages is None else tuple(stages)
        draft = attempt(
            lambda draft: self._run(number, recipe, draft, parts, ahead),
            lambda draft: lost(self.base if number else None, self._builder, draft),
            lambda what: self._progress.note(f"trial {number}: {what}"),
            earlier,
        )
        violations = self._violations(draft.metrics) | draft.outgrown()
        if draft.state == "complete" and (broken := draft.stopped or self._broken(draft.metrics)) and number > 0:
            draft.state, draft.reason = "infeasible", broken
        return TrialRecord(
            number=number,
            state=draft.state,
            reason=masked(draft.reason),
            params=dict(choice),
            recipe=recipe,
            recipe_key=recipe.key,
            passes=draft.passes,
            build_seconds=draft.build_seconds or draft.phases.get("build", 0.0),
            build_peak_rss_bytes=draft.build_peak_rss_bytes,
            evaluate_seconds=sum(s for phase, s in draft.phases.items() if phase not in ("build", "fetch")),
            metrics=dict(draft.metrics),
            constraints=violations,
            provider=draft.provider,
            runtime=draft.runtime,
            versions={library: version(library) for library in LIBRARIES},
            started=started,
            phases=draft.phases,
            stderr_tail=draft.tail,
            ladder=draft.ladder,
        )

    def _run(self, number: int, recipe: Recipe, draft: TrialInProgress, stages: Sequence[str], ahead: Ahead) -> None:
        with self._phase("build" if "build" in stages else "fetch", draft):
            self.prepare()
            outcome = self._take_build(recipe, f"{number:04d}")
        if "build" in stages:
            draft.built(outcome)
        artifact = draft.artifact = outcome.artifact
        if number == 0:
            self._builder.keep(artifact.key)
            self._base_recipe = recipe
            self._evaluators, self._base_artifact = self._make_evaluators(artifact), artifact
        draft.add([Measurement.exact("model_bytes", "bytes", artifact.model_bytes())])
        if number and (reason := self._broken(draft.metrics)):
            draft.stopped = reason
            draft.ladder = rung(SIZE, reason)
            return
        if not {"quality", "latency"} & set(stages):
            return
        with ExitStack() as stack:
            with self._phase("load", draft):
                process = self._take_process(recipe)
                if number:
                    stack.callback(process.close)
                else:
                    self.close()
                    self.base = process
                loaded = process.load(artifact.path)
                draft.provider, draft.runtime = loaded.provider, self._runtime(loaded)
                if "latency" in stages:  # memory, as time, is that of the hardware that the study compares
                    draft.add(self.evaluators.memory.evaluate(process, self._base()))
            if (following := ahead()) is not None:
                self._build_ahead(LANGUAGE.compose(following), f"{number + 1:04d}")
            if "quality" in stages:
                with self._phase("quality", draft):
                    self._score(number, recipe, draft, process)
            if "latency" not in stages or (number and (draft.stopped or self._broken(draft.metrics))):
                return
            with self._phase("latency", draft), self._builder.standing_still():
                draft.add(self.evaluators.latency.evaluate(process, self._base()))
            # The next candidate's process imports its libraries only now: nothing disturbs the timing.
            self.prepare()

    def _build_ahead(self, recipe: Recipe, name: str) -> None:
        self._following = (name, recipe.key, self._builder.start(recipe, name))

    def _take_build(self, recipe: Recipe, name: str) -> BuildOutcome:
        """The build of this trial, which may have been started during the last one."""
        started, self._following = self._following, None
        if started is None:
            return self._builder.build(recipe, name)
        if started[:2] == (name, recipe.key):
            return started[2].result()
        self._builder.abandon()  # another trial came between
        return self._builder.build(recipe, name)

    def abandon_build(self) -> None:
        """End the build of a trial that will not come."""
        if self._following is not None:
            self._following = None
            self._builder.abandon()

    def _score(self, number: int, recipe: Recipe, draft: TrialInProgress, process: ModelProcess) -> None:
        """Quality, window by window, until the ladder has seen enough; the base is scored whole."""
        gate = self._ladder.gate(recipe.key)
        quality = replace(self.evaluators.quality, stop=gate if number else None)
        draft.add(run_quality(quality, process, self._base(), self._options(recipe)).measurements)
        draft.stopped = gate.dropped
        if gate.broken is not None:
            draft.ladder = rung(WINDOWS, gate.broken, gate.audited)
        elif number and (reason := self._broken(draft.metrics)):
            draft.ladder = rung(TEXT, reason)

    def prepare(self) -> None:
        """Start the processes of the next candidate."""
        self._builder.prepare()
        if self._spare is None and self._runs_models:
            self._spare = ModelProcess.start(**self._process_options)

    def _take_process(self, recipe: Recipe) -> ModelProcess:
        """A process for a recipe's model: the spare one, unless its provider has an interpreter of its own."""
        if recipe.provider in self._pythons:
            return ModelProcess.start(**self._options(recipe))
        process, self._spare = self._spare, None
        if process is not None and process.usable:
            return process
        if process is not None:
            process.close()
        return ModelProcess.start(**self._process_options)

    def _runtime(self, loaded: Loaded) -> str:
        plain = self._process_options.get("loop") == "session"
        return loaded.runtime + (", in a plain session" if plain else "")

    def _options(self, recipe: Recipe) -> dict[str, Any]:
        own = self._pythons.get(recipe.provider)
        return self._process_options if own is None else {**self._process_options, "python": own}

    def _base(self) -> ModelProcess:
        if self.base is None:
            raise RuntimeError("the base (trial 0) is measured before any candidate")
        if not self.base.usable and self._base_recipe is not None:
            self.base.close()
            self.base = ModelProcess.open(self.base_artifact().path, **self._options(self._base_recipe))
        return self.base

    def _broken(self, metrics: Mapping[str, Measurement]) -> str:
        """The first constraint that the metrics so far break, in words; empty where they keep all."""
        for constraint in self._constraints:
            found = metrics.get(constraint.metric)
            if found is not None and not constraint.holds(found.value):
                return f"{constraint} is broken: {found.value:.6g}"
        return ""

    def _violations(self, metrics: Mapping[str, Measurement]) -> dict[str, float]:
        return {str(c): c.violation(metrics[c.metric].value) for c in self._constraints if c.metric in metrics}

    def _phase(self, name: str, draft: TrialInProgress) -> Phase:
        self._progress.phase_started(name)
        return Phase(name, draft)

    def close(self) -> None:
        """End the base's process and the spare ones."""
        for process in (self.base, self._spare):
            if process is not None:
                process.close()
        self.base = self._spare = None
