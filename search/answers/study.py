"""The answers about a study folder: its trials, two of them compared, its front and its state."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, RootModel

from olivine.search.answers.shape import Measured, Shape, measured
from olivine.search.export.folder import MANIFEST
from olivine.search.records import State, TrialRecord
from olivine.search.report.formatting import varying
from olivine.search.report.study_view import StudyView, read_view
from olivine.search.report.verdict import compared_metrics, verdict
from olivine.search.study_dir import StudyDir


class SampledMeasurement(Measured):
    """A number with all that it was computed from."""

    metric: str
    samples: list[float | None]
    protocol: dict[str, Any] = Field(description="how it was measured")


class Trial(Shape):
    """An ended trial, as ``trials/NNNN.json`` records it."""

    number: int = Field(description="0 is the float base")
    state: State
    reason: str = Field(description="why it is not complete; empty where it is")
    params: dict[str, Any] = Field(description="axis -> value")
    recipe: Any
    recipe_key: str = Field(description="equal where two trials build the same model")
    passes: list[dict[str, Any]]
    build_seconds: float
    build_peak_rss_bytes: int
    evaluate_seconds: float
    metrics: dict[str, SampledMeasurement]
    constraints: dict[str, float | None] = Field(description="constraint -> violation; 0 or less keeps it")
    provider: str
    versions: dict[str, str]
    started: str = Field(description="ISO 8601, UTC")
    phases: dict[str, float] = Field(description="phase -> seconds")
    stderr_tail: str
    runtime: str
    workers: dict[str, str]
    ladder: dict[str, Any]


class Trials(RootModel[list[Trial]]):
    """All trials of a study, by number."""


def trials_answer(records: Sequence[TrialRecord]) -> Trials:
    """All records."""
    return Trials([Trial.model_validate(record.to_json()) for record in records])


class ComparedTrial(Shape):
    """One of two trials."""

    number: int
    state: State
    reason: str
    runtime: str


class ComparedMetric(Shape):
    """A metric of two trials; null where a trial has none."""

    a: Measured | None
    b: Measured | None
    verdict: str = Field(description="in words, from the 95 % intervals")


class Comparison(Shape):
    """Two trials side by side."""

    a: ComparedTrial
    b: ComparedTrial
    same_recipe: bool
    params: dict[str, tuple[Any, Any]] = Field(description="axis that differs -> its value in a and in b, or null")
    metrics: dict[str, ComparedMetric]


def comparison_answer(a: TrialRecord, b: TrialRecord) -> Comparison:
    """Two trials side by side."""
    one, other = (
        ComparedTrial(number=each.number, state=each.state, reason=each.reason, runtime=each.runtime) for each in (a, b)
    )
    numbers = {name: tuple(_entry(record, name) for record in (a, b)) for name in compared_metrics(a, b)}
    return Comparison(
        a=one,
        b=other,
        same_recipe=a.recipe_key == b.recipe_key,
        params={axis: (a.params.get(axis), b.params.get(axis)) for axis in varying([a, b])},
        metrics={
            name: ComparedMetric(a=of_a, b=of_b, verdict=verdict(a.metrics.get(name), b.metrics.get(name)))
            for name, (of_a, of_b) in numbers.items()
        },
    )


def _entry(record: TrialRecord, metric: str) -> Measured | None:
    return Measured.of(record.metrics[metric]) if metric in record.metrics else None


class FrontMember(Shape):
    """A trial that no other beats in every objective."""

    trial: int
    selected: bool
    params: dict[str, Any]
    runtime: str
    metrics: dict[str, Measured]
    dominated_probability: float | None = Field(description="that another member beats it in every objective")


class Front(Shape):
    """The Pareto front of a study, best in the first objective first."""

    study: str = Field(description="folder")
    objectives: list[str]
    constraints: list[str]
    confirmed: bool = Field(description="measured again on fresh samples; false while the study runs")
    members: list[FrontMember]


def front_answer(study: StudyDir) -> Front:
    """The confirmed front of a study, or that of the search so far."""
    view = read_view(study)
    return Front(
        study=str(study.root),
        objectives=list(view.objectives),
        constraints=list(view.constraints),
        confirmed=view.confirmed,
        members=[_member(view, record) for record in view.members],
    )


def _member(view: StudyView, record: TrialRecord) -> FrontMember:
    return FrontMember(
        trial=record.number,
        selected=record.number == view.outcome.trial,
        params=dict(record.params),
        runtime=record.runtime,
        metrics=measured(record.metrics),
        dominated_probability=view.outcome.dominated_probability.get(record.number),
    )


class Status(Shape):
    """The state of a study."""

    study: str = Field(description="folder")
    name: str
    model: str
    state: Literal["running", "stopped", "ended"] = Field(
        description="stopped: no process runs it and it has not ended, so that 'olivine run' resumes it"
    )
    trials: dict[State, int] = Field(description="state -> ended trials, without the float base")
    selected: int | None = Field(description="trial number")
    reason: str = Field(description="why that trial, or why none; empty until it has ended")
    warnings: list[str]
    metrics: dict[str, Measured] = Field(description="of the selected trial, confirmed")
    best: str | None = Field(description="folder of the selected model")
    report: str | None = Field(description="file report.html")


def status_answer(study: StudyDir) -> Status:
    """The state of a study now."""
    view, outcome = read_view(study), study.outcome()
    counts: Counter[State] = Counter(record.state for record in view.records if record.number > 0)
    running = study.is_locked()
    return Status(
        study=str(study.root),
        name=view.name,
        model=view.model,
        state="running" if running else "ended" if outcome.ended else "stopped",
        trials={"complete": counts["complete"], "infeasible": counts["infeasible"], "failed": counts["failed"]},
        selected=outcome.trial,
        reason=outcome.reason,
        warnings=list(outcome.warnings),
        metrics=measured(outcome.metrics),
        best=_existing(study.best_path),
        report=_existing(study.report_path),
    )


class Optimized(Shape):
    """The result of ``olivine optimize``."""

    path: str | None = Field(description="the model folder; null where it was not made")
    study: Status | None = Field(description="null where one recipe was built without a search")


def optimized_answer(to: Path | None, study: StudyDir) -> Optimized:
    """The folder that was made, and the study that found it; a folder of one recipe names no study."""
    searched = to is None or "study" in json.loads((to / MANIFEST).read_text(encoding="utf-8"))
    return Optimized(path=None if to is None else str(to), study=status_answer(study) if searched else None)


def _existing(path: Path) -> str | None:
    return str(path) if path.exists() else None
