"""TrialRecord and StudyOutcome: the facts of a study, and their JSON, which is made and read here alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.metric import split_text
from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE, read_recipe
from olivine.passes.recipe import Recipe

State = Literal["complete", "infeasible", "failed"]
#: Metric -> its measurement.
Metrics = Mapping[str, Measurement]


@dataclass(frozen=True)
class TrialRecord:
    """One ended trial.

    Attributes:
        number: Optuna's trial number; 0 is the float base.
        state: ``complete`` (measured in full), ``infeasible`` (surely broke a constraint, or was measured and
            breaks one), ``failed`` (did not build or run).
        reason: why it is not complete, in one sentence; empty where it is.
        params: the values of the searched axes that apply, and the fixed ones.
        recipe: its steps.
        recipe_key: identity of the recipe.
        passes: name, params, seconds, cached of each pass.
        build_seconds: wall-clock seconds of the build.
        build_peak_rss_bytes: peak resident memory of the process that built it.
        evaluate_seconds: wall-clock seconds of all evaluators.
        metrics: measurements of the search.
        constraints: constraint -> violation; 0 or less keeps it.
        provider: the execution provider that truly ran.
        versions: package -> version.
        started: ISO 8601, UTC.
        phases: seconds of each phase of the trial, for the report's timing.
        stderr_tail: the last lines of a child process that failed.
        runtime: the flavours of ONNX Runtime that ran it, with their versions.
        workers: part of the trial -> the worker of a shared study that did it; empty where one process did all.
        ladder: {step, reason, audited} of a candidate that was dropped before it was timed, or would have been but for
            the audit; empty for others.
    """

    number: int
    state: State
    reason: str
    params: Mapping[str, Any]
    recipe: Recipe
    recipe_key: str
    passes: list[dict[str, Any]] = field(default_factory=list)
    build_seconds: float = 0.0
    build_peak_rss_bytes: int = 0
    evaluate_seconds: float = 0.0
    metrics: Metrics = field(default_factory=dict)
    constraints: Mapping[str, float] = field(default_factory=dict)
    provider: str = "cpu"
    versions: Mapping[str, str] = field(default_factory=dict)
    started: str = ""
    phases: Mapping[str, float] = field(default_factory=dict)
    stderr_tail: str = ""
    runtime: str = ""
    workers: Mapping[str, str] = field(default_factory=dict)
    ladder: Mapping[str, Any] = field(default_factory=dict)

    def value(self, metric: str) -> float:
        """The value of one metric.

        Raises:
            KeyError: when the trial ended before it was measured.
        """
        return self.metrics[metric].value

    @property
    def feasible(self) -> bool:
        """True where it was measured in full and keeps every constraint."""
        return self.state == "complete"

    def to_json(self) -> dict[str, Any]:
        """The content of ``trials/NNNN.json``."""
        plain = asdict(replace(self, recipe=LANGUAGE.recipe([]), metrics={}))
        return plain | {"recipe": self.recipe.to_json(), "metrics": metrics_json(self.metrics)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TrialRecord:
        """The inverse of :meth:`to_json`, for records of every version."""
        recipe, metrics = read_recipe(content["recipe"]), read_metrics(content.get("metrics", {}))
        return cls(**{**content, "recipe": recipe, "metrics": metrics})


@dataclass(frozen=True)
class LeftOut:
    """The selected recipe without one of its ingredients.

    Attributes:
        axis: the axis.
        value: that the selected recipe has.
        ablated_value: that replaced it.
        metrics: of the recipe without it, measured as the front is confirmed; empty where it does not build or run.
        reason: why it does not.
    """

    axis: str
    value: Scalar
    ablated_value: Scalar
    metrics: Metrics
    reason: str = ""


@dataclass(frozen=True)
class TaskScores:
    """Scores of lm-eval's tasks.

    Attributes:
        measured: trial number -> its scores, named ``task.metric``; 0 is the base.
        failures: trials that could not be scored, each in a sentence.
    """

    measured: Mapping[int, Metrics] = field(default_factory=dict)
    failures: tuple[str, ...] = ()


@dataclass(frozen=True)
class StudyOutcome:
    """The end of a study: its selected trial and the measurements of confirmation. All is empty while it runs.

    Attributes:
        trial: number of the selected trial; None where nothing is selected.
        reason: why that one, or why none, in a sentence; empty while the study runs.
        warnings: to be known before it is deployed, each with a cure.
        confirmed: trial number -> metrics measured again, on fresh samples.
        front: trial numbers of the confirmed front.
        dominated_probability: trial number -> probability that another member beats it in every objective.
        measured: trial number -> times that its latency was measured.
        shrinkage: metric -> geometric mean of confirmed value / the search's own.
        default_threads: speedups of GenAI's default of one thread over the base; empty where that is the base.
        rebuild: the command that builds the selected trial again.
        tasks: scores of lm-eval's tasks, where the study asks for some.
        ablation: the selected recipe without each of its ingredients, where the study asks for it.
    """

    trial: int | None = None
    reason: str = ""
    warnings: tuple[str, ...] = ()
    confirmed: Mapping[int, Metrics] = field(default_factory=dict)
    front: tuple[int, ...] = ()
    dominated_probability: Mapping[int, float] = field(default_factory=dict)
    measured: Mapping[int, int] = field(default_factory=dict)
    shrinkage: Mapping[str, float] = field(default_factory=dict)
    default_threads: Metrics = field(default_factory=dict)
    rebuild: str = ""
    tasks: TaskScores | None = None
    ablation: tuple[LeftOut, ...] = ()

    @property
    def ended(self) -> bool:
        """True once the study has selected a trial, or found that none can be."""
        return bool(self.reason)

    @property
    def metrics(self) -> Metrics:
        """Confirmed metrics of the selected trial; empty where nothing is selected."""
        return {} if self.trial is None else self.confirmed.get(self.trial, {})

    def to_json(self) -> dict[str, Any]:
        """The content of selection.json."""
        plain = {name: value for name, value in vars(self).items() if name not in ("tasks", "ablation")}
        plain["confirmed"] = _all_metrics_json(self.confirmed)
        plain["default_threads"] = metrics_json(self.default_threads)
        if self.tasks is not None:
            measured = _all_metrics_json(self.tasks.measured)
            plain["tasks"] = {"measured": measured, "failures": self.tasks.failures}
        if self.ablation:
            plain["ablation"] = [
                {"axis": part.axis, "value": part.value, "plain": part.ablated_value}
                | {"metrics": metrics_json(part.metrics), "reason": part.reason}
                for part in self.ablation
            ]
        return plain

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> StudyOutcome:
        """The inverse of :meth:`to_json`, for files of every version."""
        tasks = content.get("tasks")
        return cls(
            trial=content["trial"],
            reason=content["reason"],
            warnings=tuple(content.get("warnings", ())),
            confirmed=_read_all_metrics(content.get("confirmed", {})),
            front=tuple(content.get("front", ())),
            dominated_probability={int(n): p for n, p in content.get("dominated_probability", {}).items()},
            measured={int(n): count for n, count in content.get("measured", {}).items()},
            shrinkage=content.get("shrinkage", {}),
            default_threads=read_metrics(content.get("default_threads", {})),
            rebuild=content.get("rebuild", ""),
            tasks=TaskScores(_read_all_metrics(tasks["measured"]), tuple(tasks["failures"])) if tasks else None,
            ablation=tuple(
                LeftOut(row["axis"], row["value"], row["plain"], read_metrics(row["metrics"]), row["reason"])
                for row in content.get("ablation", ())
            ),
        )


def on_every_text(metrics: Metrics, metric: str) -> list[Measurement]:
    """A metric on each text that it was measured on, the study's own first; empty where it was not measured."""
    return [measured for name, measured in metrics.items() if split_text(name)[0] == metric]


def metrics_json(metrics: Metrics, samples: bool = True) -> dict[str, dict[str, Any]]:
    """Measurements as records, selection.json and manifests hold them; manifests leave the samples out."""
    entries = {name: measurement.to_dict() for name, measurement in metrics.items()}
    return entries if samples else {name: entry | {"samples": []} for name, entry in entries.items()}


def read_metrics(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Measurement]:
    """The inverse of :func:`metrics_json`."""
    return {
        name: Measurement(**{**entry, "metric": name, "samples": tuple(entry.get("samples", ()))})
        for name, entry in entries.items()
    }


def _all_metrics_json(metrics: Mapping[int, Metrics]) -> dict[str, Any]:
    return {str(number): metrics_json(measured) for number, measured in metrics.items()}


def _read_all_metrics(entries: Mapping[str, Any]) -> dict[int, Metrics]:
    return {int(number): read_metrics(measured) for number, measured in entries.items()}
