"""A choice of axis values -> graph -> measurements -> a trial record, for plain graphs; cheap before dear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from olivine.evaluators.latency.graph import PairedGraphLatency
from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.quality.output_fidelity import Fidelity
from olivine.evaluators.quality.task_score import TaskScore
from olivine.passes.artifact import ModelArtifact
from olivine.passes.base import Scalar
from olivine.passes.catalog import GRAPH
from olivine.passes.errors import SourceError, Unwritable, UsageError
from olivine.passes.graphs.graph_inputs import graph_inputs
from olivine.passes.graphs.source import GRAPH_FILE, graph_bytes
from olivine.passes.recipe import Recipe
from olivine.passes.store.secrets import masked
from olivine.search.config.graph import GraphStudyConfig
from olivine.search.records import TrialRecord
from olivine.search.report.progress import Progress
from olivine.search.study.trial import Phase, TrialInProgress, attempt, lost
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.graph_builder import GraphBuilder
from olivine.search.workloads.graph_samples import Samples, make_samples
from olivine.search.workloads.graph_task import Task

LIBRARIES = ("olivine", "onnx", "onnxruntime", "onnx-ir", "torch", "transformers", "optuna")


class GraphObjective:
    """Builds and measures candidates beside the resident base.

    Args:
        config: of the study.
        builder: builds recipes.
        folder: of the study.
        progress: told of each phase.
        task: labelled rows, if the study has some.
    """

    def __init__(
        self,
        config: GraphStudyConfig,
        builder: GraphBuilder,
        folder: StudyDir,
        progress: Progress,
        task: Task | None = None,
    ) -> None:
        self._task = task
        self._task_feeds: dict[str, tuple[tuple[Path, int], ...]] = {}
        self._config, self._builder, self._folder, self._progress = config, builder, folder, progress
        self._options = {
            "timeout_s": config.children.timeout,
            "memory_limit_bytes": config.children.memory,
            "loop": "graph",
        }
        self._base: ModelProcess | None = None
        self._base_artifact: ModelArtifact | None = None
        self._samples: Samples | None = None
        #: The base's latency in this study, from its trial on.
        self.base_ms: float | None = None

    @property
    def samples(self) -> Samples:
        """The study's samples; there from the base on."""
        if self._samples is None:
            raise RuntimeError("the base (trial 0) comes before any candidate")
        return self._samples

    def open_base(self, choice: Mapping[str, Scalar]) -> ModelArtifact:
        """Build the base, make the samples, and load it; it is not measured.

        Raises:
            OlivineError: when it can't be built or loaded, or the inputs do not fit it.
        """
        outcome = self._builder.build(GRAPH.compose(choice), "base")
        artifact = self._base_artifact = outcome.artifact
        self._builder.keep(artifact.key)
        inputs = graph_inputs(artifact.path / GRAPH_FILE)
        to, model = self._folder.root / "inputs", self._builder.source.folder
        self._samples = make_samples(self._config, model, inputs, to)
        if self._task is not None:
            self._task_feeds = self._task.write(to, inputs)
        self._builder.calibrate = self._samples.path("calibrate")
        self.close()
        self._base = ModelProcess.open(artifact.path, **self._options)
        return artifact

    def build(self, recipe: Recipe, name: str) -> ModelArtifact:
        """Build a recipe, or take it from the cache."""
        return self._builder.build(recipe, name).artifact

    def measure(self, number: int, choice: Mapping[str, Scalar]) -> TrialRecord:
        """Build and measure one candidate; trial 0 is the base, which stays loaded for the others."""
        recipe = GRAPH.compose(choice)
        started = datetime.now(UTC).isoformat(timespec="seconds")
        draft = attempt(
            lambda draft: self._run(number, choice, recipe, draft),
            lambda draft: lost(self._base if number else None, self._builder, draft),
            lambda what: self._progress.note(f"trial {number}: {what}"),
            blameless=(Unwritable, SourceError, UsageError),
        )
        if draft.state == "complete" and number and (broken := self._broken(draft.metrics)):
            draft.state, draft.reason = "infeasible", broken
        limits = [c for c in self._config.parsed_constraints() if c.metric in draft.metrics]
        violations = {str(c): c.violation(draft.metrics[c.metric].value) for c in limits} | draft.outgrown()
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
            evaluate_seconds=sum(seconds for phase, seconds in draft.phases.items() if phase != "build"),
            metrics=dict(draft.metrics),
            constraints=violations,
            provider=draft.provider,
            runtime=draft.runtime,
            versions={library: version(library) for library in LIBRARIES},
            started=started,
            phases=draft.phases,
            stderr_tail=draft.tail,
        )

    def _run(self, number: int, choice: Mapping[str, Scalar], recipe: Recipe, draft: TrialInProgress) -> None:
        with self._phase("build", draft):
            if number == 0:
                self.open_base(choice)
            outcome = self._builder.build(recipe, f"{number:04d}")
            draft.built(outcome)
        draft.artifact = outcome.artifact
        path = outcome.artifact.path
        draft.add([Measurement.exact("model_bytes", "bytes", graph_bytes(path))])
        if number and self._broken(draft.metrics):
            return
        with self._phase("load", draft):
            process = ModelProcess.open(path, **self._options) if number else self.base()
        try:
            draft.add(self._memory(process))
            assert process.loaded is not None
            draft.provider, draft.runtime = "cpu", process.loaded.runtime
            with self._phase("fidelity", draft):
                draft.add(self.fidelity("select").evaluate(process, self.base()))
            if number and self._broken(draft.metrics):
                return
            if self._task is not None:
                with self._phase("task", draft):
                    draft.add(self.task("select").evaluate(process, self.base()))
                if number and self._broken(draft.metrics):
                    return
            with self._phase("latency", draft):
                draft.add(self.latency().evaluate(process, self.base()))
        finally:
            if number:
                process.close()
        if number == 0:
            self.base_ms = draft.metrics["latency_ms"].value

    def _memory(self, process: ModelProcess) -> list[Measurement]:
        """Peak memory after a run of every shape, and the time that loading took."""
        for number in range(len(self.samples.shapes)):
            process.run(self.samples.timed, number, 1)
        assert process.loaded is not None
        return [
            Measurement.exact("peak_rss_bytes", "bytes", process.stats().peak_rss_bytes, after="a run of every shape"),
            Measurement.exact("load_ms", "ms", process.loaded.load_ms, samples="one load; files may be cached"),
        ]

    def fidelity(self, split: str) -> Fidelity:
        """What compares outputs on one split of the samples."""
        assert self._base_artifact is not None
        evaluation, samples = self._config.evaluation, self.samples
        return Fidelity(
            samples.path(split),
            samples.counts[split],
            self._folder.root / "reference",
            self._base_artifact.key,
            evaluation.output,
            evaluation.logits,
            split,
            samples.origin,
        )

    def task(self, part: str) -> TaskScore:
        """What scores one part of the labelled rows; there is a task."""
        assert self._task is not None
        assert self._base_artifact is not None
        store, output = self._folder.root / "reference", self._config.evaluation.output
        return self._task.evaluator(part, self._task_feeds[part], store, self._base_artifact.key, output)

    def latency(self, seconds: float | None = None, seed: int = 0) -> PairedGraphLatency:
        """What times candidates; for so long."""
        latency = self._config.evaluation.latency
        return PairedGraphLatency(
            self.samples.timed,
            self.samples.shapes,
            latency.half_width,
            seconds or latency.max_seconds,
            self._config.seed + seed,
            self.base_ms,
        )

    def remeasure(self, recipe: Recipe, name: str, latency: PairedGraphLatency) -> dict[str, Measurement]:
        """Every metric of a measured candidate anew, on the held-back samples, in a fresh process.

        Raises:
            OlivineError: when it no longer builds or runs.
        """
        artifact = self.build(recipe, name)
        found = [Measurement.exact("model_bytes", "bytes", graph_bytes(artifact.path))]
        with ModelProcess.open(artifact.path, **self._options) as process:
            found += self._memory(process)
            found += self.fidelity("confirm").evaluate(process, self.base())
            if self._task is not None:
                found += self.task("confirm").evaluate(process, self.base())
            found += latency.evaluate(process, self.base())
        return {m.metric: m for m in found}

    def retime(self, recipe: Recipe, name: str, latency: PairedGraphLatency, seed: int) -> list[Measurement]:
        """Latency alone of a measured candidate, in a fresh process."""
        artifact = self.build(recipe, name)
        with ModelProcess.open(artifact.path, **self._options) as process:
            return replace(latency, seed=latency.seed + seed).evaluate(process, self.base())

    def base(self) -> ModelProcess:
        """The loaded base; loaded again where its process has died."""
        if self._base is None or self._base_artifact is None:
            raise RuntimeError("the base (trial 0) is measured before any candidate")
        if not self._base.usable:
            self._base.close()
            self._base = ModelProcess.open(self._base_artifact.path, **self._options)
        return self._base

    def _broken(self, metrics: Mapping[str, Measurement]) -> str:
        """The first constraint that the metrics so far break, in words; empty where they keep all."""
        for constraint in self._config.parsed_constraints():
            found = metrics.get(constraint.metric)
            if found is not None and not constraint.holds(found.value):
                return f"{constraint} is broken: {found.value:.6g}"
        return ""

    def _phase(self, name: str, draft: TrialInProgress) -> Phase:
        self._progress.phase_started(name)
        return Phase(name, draft)

    def process_options(self) -> dict[str, Any]:
        """How models of this study are run, as :meth:`ModelProcess.start` takes it."""
        return dict(self._options)

    def close(self) -> None:
        """End the base's process."""
        if self._base is not None:
            self._base.close()
        self._base = None
