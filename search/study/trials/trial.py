"""A trial while it runs, until its record is written; run once more where it failed by no fault of its candidate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.client import ModelProcess
from olivine.passes.artifact import ModelArtifact
from olivine.passes.base import Scalar
from olivine.passes.errors import Excess, OlivineError, SourceError, Unwritable
from olivine.passes.recipe import Recipe
from olivine.passes.store.secrets import masked
from olivine.search.builds.builder import BuildOutcome
from olivine.search.config.constraints import Constraint
from olivine.search.records import State, TrialRecord
from olivine.search.study.trials.pruning import rung

#: The constraint that every candidate has: the memory that its processes may hold.
MEMORY = "children.memory"
#: Phases of a record in which nothing is evaluated.
_BUILDING = ("build", "fetch")


@dataclass
class TrialInProgress:
    """A record while its trial runs."""

    started: str = ""
    metrics: dict[str, Measurement] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)
    passes: list[dict[str, Any]] = field(default_factory=list)
    build_seconds: float = 0.0
    build_peak_rss_bytes: int = 0
    ladder: Mapping[str, Any] = field(default_factory=dict)
    provider: str = "cpu"
    runtime: str = ""
    state: State = "complete"
    reason: str = ""
    tail: str = ""
    dropped: str = ""
    excess: Excess | None = None
    artifact: ModelArtifact | None = None

    @classmethod
    def after(cls, earlier: TrialRecord | None, started: str) -> TrialInProgress:
        """A trial that goes on from the record of its earlier parts; a new one without it."""
        if earlier is None:
            return cls(started)
        build = (earlier.passes, earlier.build_seconds, earlier.build_peak_rss_bytes)
        return cls(started, dict(earlier.metrics), dict(earlier.phases), *build, earlier.ladder)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase, also where it fails."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.phases[name] = time.perf_counter() - start

    def built(self, outcome: BuildOutcome) -> None:
        """Note the passes, seconds and memory of the build."""
        self.passes, self.build_seconds = outcome.passes, outcome.seconds
        self.build_peak_rss_bytes = outcome.peak_rss_bytes

    def loaded(self, process: ModelProcess) -> None:
        """Note the provider and the runtime that a loaded process truly runs with."""
        if (model := process.loaded) is not None:
            plain = ", in a plain session" if process.loop == "session" else ""
            self.provider, self.runtime = model.provider, f"{model.runtime}{plain}"

    def add(self, measurements: Iterable[Measurement]) -> None:
        """Note measurements; later ones of a metric replace earlier ones."""
        self.metrics.update((m.metric, m) for m in measurements)

    def drop(self, step: str, reason: str) -> None:
        """End the trial at a step, since a constraint is broken."""
        self.dropped = reason
        self.ladder = self.ladder or rung(step, reason)

    def failed(self, error: OlivineError) -> None:
        """Note the error that ended it, and the memory for which a process was ended, if that is why."""
        self.state, self.reason, self.tail = "failed", str(error), getattr(error, "tail", "")
        self.excess = getattr(error, "excess", None)
        if self.excess is not None:
            # It needs more than there is, which a sampler can learn from, like any other broken constraint.
            self.state = "infeasible"

    def outgrown(self) -> dict[str, float]:
        """By how much a process outgrew its limit, if one did; its peak, of build or model, is noted."""
        if self.excess is None:
            return {}
        if "model_bytes" in self.metrics:
            peak = Measurement.exact("peak_rss_bytes", "bytes", self.excess.peak_bytes, ended="at its limit")
            self.add([peak])
        else:
            self.build_peak_rss_bytes = self.excess.peak_bytes
        return {MEMORY: self.excess.peak_bytes / self.excess.limit_bytes - 1}

    def record(
        self,
        number: int,
        choice: Mapping[str, Scalar],
        recipe: Recipe,
        constraints: Sequence[Constraint],
        libraries: Sequence[str],
    ) -> TrialRecord:
        """The record of the trial, which has ended.

        Args:
            number: of the trial; 0 is the base, which no constraint ends.
            choice: its axis values.
            recipe: its steps.
            constraints: of the study.
            libraries: packages whose versions are kept.
        """
        violations = {
            str(c): c.violation(self.metrics[c.metric].value) for c in constraints if c.metric in self.metrics
        }
        violations |= self.outgrown()
        state, reason = self.state, self.reason
        if (
            state == "complete"
            and number > 0
            and (broken := self.dropped or broken_constraint(self.metrics, constraints))
        ):
            state, reason = "infeasible", broken
        return TrialRecord(
            number=number,
            state=state,
            reason=masked(reason),
            params=dict(choice),
            recipe=recipe,
            recipe_key=recipe.key,
            passes=self.passes,
            build_seconds=self.build_seconds or self.phases.get("build", 0.0),
            build_peak_rss_bytes=self.build_peak_rss_bytes,
            evaluate_seconds=sum(seconds for phase, seconds in self.phases.items() if phase not in _BUILDING),
            metrics=dict(self.metrics),
            constraints=violations,
            provider=self.provider,
            runtime=self.runtime,
            versions={library: version(library) for library in libraries},
            started=self.started,
            phases=self.phases,
            stderr_tail=self.tail,
            ladder=self.ladder,
        )


def broken_constraint(metrics: Mapping[str, Measurement], constraints: Sequence[Constraint]) -> str:
    """The first constraint that the metrics so far break, in words; empty where they keep all."""
    for constraint in constraints:
        measurement = metrics.get(constraint.metric)
        if measurement is not None and not constraint.holds(measurement.value):
            return f"{constraint} is broken: {measurement.value:.6g}"
    return ""


def attempt(
    run: Callable[[TrialInProgress], None],
    lost: Callable[[TrialInProgress], str | None],
    note: Callable[[str], None],
    earlier: TrialRecord | None = None,
    blameless: tuple[type[OlivineError], ...] = (Unwritable, SourceError),
) -> TrialInProgress:
    """Run a trial, once more where it lost something by no fault of its candidate.

    Args:
        run: does the trial and notes in it what is measured.
        lost: says, after an error, what the trial had lost by no fault of its candidate; None where nothing.
        note: told of that.
        earlier: record of the parts that other workers have done.
        blameless: errors that are no candidate's fault and end the study.

    Returns:
        The ended trial; a failed one has its reason.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    trial = TrialInProgress.after(earlier, started)
    try:
        try:
            run(trial)
        except (OlivineError, OSError):
            if (loss := lost(trial)) is None:
                raise
            note(loss)
            trial = TrialInProgress.after(earlier, started)
            run(trial)
    except blameless:
        raise
    except OlivineError as error:
        trial.failed(error)
    return trial
