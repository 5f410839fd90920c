"""Objective: a choice of axis values -> recipe -> artifact -> measurements -> a trial record.

Cheap before dear: size, then quality window by window, then latency. A candidate that breaks a constraint is
stopped where that shows, with the reason; a crash costs its own trial.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from olivine.evaluators.arm import Arm
from olivine.evaluators.base import Measurement
from olivine.evaluators.latency import PairedLatency
from olivine.evaluators.memory import Memory
from olivine.evaluators.quality import Quality, WindowSums
from olivine.evaluators.twin import run_quality
from olivine.passes.artifact import ModelArtifact
from olivine.passes.base import Scalar
from olivine.passes.errors import OlivineError
from olivine.passes.recipe import Recipe, compose
from olivine.search.live import Watcher
from olivine.search.metrics import Constraint
from olivine.search.records import State, TrialRecord
from olivine.search.workers import Builder, BuildOutcome

LIBRARIES = ("olivine", "onnxruntime", "onnxruntime-genai", "onnx-ir", "torch", "transformers", "optuna")


@dataclass(frozen=True)
class Evaluators:
    """The evaluators of one study, cheap ones first."""

    memory: Memory
    quality: Quality
    latency: PairedLatency


@dataclass
class _Draft:
    """A record while its trial runs."""

    metrics: dict[str, Measurement] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)
    built: BuildOutcome | None = None
    provider: str = "cpu"
    stopped: str | None = None

    def add(self, measurements: Iterable[Measurement]) -> None:
        self.metrics.update((m.metric, m) for m in measurements)


class Objective:
    """Builds and measures candidates beside the resident base.

    Args:
        builder: builds recipes.
        evaluators: makes what measures, once the base is built: its tokenizer cuts the text.
        constraints: what a candidate has to keep.
        watcher: told of each phase.
        arm_options: limits of the model processes, as :meth:`Arm.start` takes them.
    """

    def __init__(
        self,
        builder: Builder,
        evaluators: Callable[[ModelArtifact], Evaluators],
        constraints: tuple[Constraint, ...],
        watcher: Watcher,
        arm_options: Mapping[str, Any],
    ) -> None:
        self._builder, self._make_evaluators, self._constraints = builder, evaluators, constraints
        self._evaluators: Evaluators | None = None
        self._watcher, self._arm_options = watcher, dict(arm_options)
        self.base: Arm | None = None
        self._base_artifact: ModelArtifact | None = None
        self._spare: Arm | None = None

    @property
    def evaluators(self) -> Evaluators:
        """What measures; there from the base on."""
        if self._evaluators is None:
            raise RuntimeError("the base (trial 0) comes before any candidate")
        return self._evaluators

    def load_base(self, choice: Mapping[str, Scalar]) -> ModelArtifact:
        """Build and load the base without measuring it: a resumed study knows its numbers already."""
        artifact = self._builder.build(compose(choice), "base").artifact
        self._evaluators, self._base_artifact = self._make_evaluators(artifact), artifact
        self.close()
        self.base = Arm.open(artifact.path, **self._arm_options)
        return artifact

    def base_artifact(self) -> ModelArtifact:
        """The base's folder; there from trial 0 on."""
        if self._base_artifact is None:
            raise RuntimeError("the base (trial 0) comes before any candidate")
        return self._base_artifact

    def calibrate(self, key: str) -> None:
        """From now on, recipes that learn from text are built with the windows stored under ``key``."""
        self._builder.calibration = key

    def build(self, recipe: Recipe, name: str) -> ModelArtifact:
        """Build a recipe, or take it from the cache."""
        return self._builder.build(recipe, name).artifact

    def remeasure(self, record: TrialRecord, evaluators: Evaluators) -> dict[str, Measurement]:
        """Every metric of a measured candidate anew, with other evaluators, in a fresh process.

        Raises:
            OlivineError: when it no longer builds or runs.
        """
        artifact = self.build(Recipe.from_json(record.recipe), f"{record.number:04d}-confirm")
        with Arm.open(artifact.path, **self._arm_options) as arm:
            found = evaluators.memory.evaluate(arm, self._base())
            found += run_quality(evaluators.quality, arm, self._base(), self._arm_options).measurements
            found += evaluators.latency.evaluate(arm, self._base())
        return {m.metric: m for m in found}

    def time_choice(self, choice: Mapping[str, Scalar]) -> list[Measurement]:
        """Latency alone of a choice, beside the base."""
        artifact = self.build(compose(choice), "timing")
        with Arm.open(artifact.path, **self._arm_options) as arm:
            return self.evaluators.latency.evaluate(arm, self._base())

    def measure(self, number: int, choice: Mapping[str, Scalar]) -> TrialRecord:
        """Build and measure one candidate; trial 0 is the base, which stays loaded for the others."""
        recipe = compose(choice)
        draft = _Draft()
        started = datetime.now(UTC).isoformat(timespec="seconds")
        state: State = "complete"
        reason = tail = ""
        try:
            self._run(number, recipe, draft)
        except OlivineError as error:
            state, reason, tail = "failed", str(error), getattr(error, "tail", "")
        violations = self._violations(draft.metrics)
        if state == "complete" and (broken := draft.stopped or self._broken(draft.metrics)) and number > 0:
            state, reason = "infeasible", broken
        return TrialRecord(
            number=number,
            state=state,
            reason=reason,
            params=dict(choice),
            recipe=recipe.to_json(),
            recipe_key=recipe.key,
            passes=draft.built.passes if draft.built else [],
            build_seconds=draft.built.seconds if draft.built else draft.phases.get("build", 0.0),
            build_peak_rss_bytes=draft.built.peak_rss_bytes if draft.built else 0,
            evaluate_seconds=sum(s for phase, s in draft.phases.items() if phase != "build"),
            metrics={name: asdict(m) for name, m in draft.metrics.items()},
            constraints=violations,
            provider=draft.provider,
            versions={library: version(library) for library in LIBRARIES},
            started=started,
            phases=draft.phases,
            stderr_tail=tail,
        )

    def _run(self, number: int, recipe: Recipe, draft: _Draft) -> None:
        with self._phase("build", draft):
            self.prepare()
            draft.built = self._builder.build(recipe, f"{number:04d}")
        artifact = draft.built.artifact
        if number == 0:
            self._evaluators, self._base_artifact = self._make_evaluators(artifact), artifact
        draft.add([Measurement.exact("model_bytes", "bytes", artifact.model_bytes())])
        if number and (reason := self._broken(draft.metrics)):
            draft.stopped = reason
            return
        with ExitStack() as stack:
            with self._phase("load", draft):
                arm = self._take_arm()
                if number:
                    stack.callback(arm.close)
                else:
                    self.close()
                    self.base = arm
                draft.provider = arm.load(artifact.path).provider
                draft.add(self.evaluators.memory.evaluate(arm, self._base()))
            with self._phase("quality", draft):
                result = run_quality(self.evaluators.quality, arm, self._base(), self._arm_options)
                draft.add(result.measurements)
            draft.stopped = result.stopped
            if number and (result.stopped or self._broken(draft.metrics)):
                return
            with self._phase("latency", draft):
                draft.add(self.evaluators.latency.evaluate(arm, self._base()))
            # The next candidate's children import their libraries only now: nothing disturbs the timing.
            self.prepare()

    def prepare(self) -> None:
        """Start the processes of the next candidate."""
        self._builder.prepare()
        if self._spare is None:
            self._spare = Arm.start(**self._arm_options)

    def _take_arm(self) -> Arm:
        arm, self._spare = self._spare or Arm.start(**self._arm_options), None
        return arm

    def _base(self) -> Arm:
        if self.base is None:
            raise RuntimeError("the base (trial 0) is measured before any candidate")
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

    def _phase(self, name: str, draft: _Draft) -> _Phase:
        self._watcher.phase_started(name)
        return _Phase(name, draft)

    def close(self) -> None:
        """End the base's process and the spare ones."""
        for arm in (self.base, self._spare):
            if arm is not None:
                arm.close()
        self.base = self._spare = None


class _Phase:
    """Times one phase of a trial, also where it fails."""

    def __init__(self, name: str, draft: _Draft) -> None:
        self._name, self._draft = name, draft

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._draft.phases[self._name] = time.perf_counter() - self._start


def stop_rule(constraints: Iterable[Constraint]) -> Any:
    """A stop rule for :class:`Quality`: ends the scoring of a candidate that has surely broken a constraint."""
    watched = tuple(constraints)

    def stop(sums: WindowSums) -> str | None:
        bounds = sums.bounds()
        for constraint in watched:
            interval = bounds.get(constraint.metric)
            if interval is None:
                continue
            best = interval.low if constraint.relation == "<=" else interval.high
            if not constraint.holds(best):
                return (
                    f"{constraint} is surely broken: {interval.value:.4g}, between {interval.low:.4g} and "
                    f"{interval.high:.4g}, after {len(sums.nll)} windows"
                )
        return None

    return stop
