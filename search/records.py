"""The study folder: what each file is called and what is in it.

``trials/0007.json`` is written once, when its trial ends, whatever its state; everything that is shown later
(table, front, report, dashboard) can be made from these files alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from olivine.passes.errors import UsageError
from olivine.passes.store.atomic_files import write_atomic

#: Of a study folder; raised whenever an older olivine could misread what a newer one writes.
FORMAT = 1

#: The record of the base in a study folder.
BASE = "trials/0000.json"

State = Literal["complete", "infeasible", "failed"]


@dataclass(frozen=True)
class TrialRecord:
    """One ended trial.

    Attributes:
        number: Optuna's trial number; 0 is the float base.
        state: ``complete`` (measured in full), ``infeasible`` (surely broke a constraint, or was measured and
            breaks one), ``failed`` (did not build or run).
        reason: why it is not complete, in one sentence; empty where it is.
        params: the values of the searched axes that apply, and the fixed ones.
        recipe: the steps, as :meth:`Recipe.to_json` gives them.
        recipe_key: identity of the recipe.
        passes: name, params, seconds, cached of each pass.
        build_seconds: wall-clock seconds of the build.
        build_peak_rss_bytes: peak resident memory of the process that built it.
        evaluate_seconds: wall-clock seconds of all evaluators.
        metrics: metric -> {value, low, high, unit, samples, protocol}.
        constraints: constraint -> violation; 0 or less keeps it.
        provider: the execution provider that truly ran.
        runtime: the flavours of ONNX Runtime that ran it, with their versions.
        versions: package -> version.
        started: ISO 8601, UTC.
        phases: seconds of each phase of the trial, for the report's timing.
        stderr_tail: the last that a failed child process said.
        ladder: {step, reason, audited} of a candidate that was dropped before it was timed, or would have been but for
            the audit (``ladder.py``); empty for others.
        workers: part of the trial -> the worker of a shared study that did it; empty where one process did all.
    """

    number: int
    state: State
    reason: str
    params: Mapping[str, Any]
    recipe: list[dict[str, Any]]
    recipe_key: str
    passes: list[dict[str, Any]] = field(default_factory=list)
    build_seconds: float = 0.0
    build_peak_rss_bytes: int = 0
    evaluate_seconds: float = 0.0
    metrics: Mapping[str, dict[str, Any]] = field(default_factory=dict)
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
        return float(self.metrics[metric]["value"])

    @property
    def feasible(self) -> bool:
        """Measured in full and keeping every constraint."""
        return self.state == "complete"


@dataclass(frozen=True)
class StudyDir:
    """A study folder."""

    root: Path

    @classmethod
    def open(cls, root: Path) -> StudyDir:
        """An existing study folder.

        Raises:
            UsageError: when the folder is none, or of a version that this one can't read.
        """
        study = cls(root)
        if not study.config_path.is_file():
            raise UsageError(f"{root} is no study folder: it has no config.yaml. 'olivine run CONFIG' makes one.")
        study.check_format()
        return study

    def check_format(self) -> None:
        """Refuse a folder that a newer olivine wrote; the first versions wrote format 1 without saying so.

        Raises:
            UsageError: naming the version that reads it.
        """
        if not self.format_path.is_file():
            return
        found = _parsed(self.format_path)
        if int(found["format"]) > FORMAT:
            raise UsageError(
                f"{self.root} is a study of format {found['format']}, written by olivine {found['olivine']}; this "
                f"olivine {version('olivine')} reads formats up to {FORMAT}. Open it with olivine {found['olivine']} "
                "or newer."
            )

    def write_format(self) -> None:
        """Say which version reads this folder."""
        write_atomic(self.format_path, json.dumps({"format": FORMAT, "olivine": version("olivine")}))

    @property
    def config_path(self) -> Path:
        """The resolved config."""
        return self.root / "config.yaml"

    @property
    def format_path(self) -> Path:
        """The format of the folder, and the version that wrote it: {format, olivine}."""
        return self.root / "format.json"

    @property
    def environment_path(self) -> Path:
        """Hardware, versions, threads."""
        return self.root / "environment.json"

    @property
    def database_path(self) -> Path:
        """Optuna's RDB storage."""
        return self.root / "study.db"

    @property
    def base_times_path(self) -> Path:
        """The base's own times over the study."""
        return self.root / "base_times.json"

    @property
    def kernels_path(self) -> Path:
        """What the kernel probe found, and which kernels are therefore not proposed."""
        return self.root / "kernels.json"

    @property
    def front_path(self) -> Path:
        """The confirmed Pareto front: a row per member."""
        return self.root / "front.csv"

    @property
    def selection_path(self) -> Path:
        """Which trial was selected, why, and what confirmation found: {trial, reason, warnings, confirmed: {...}}."""
        return self.root / "selection.json"

    @property
    def report_path(self) -> Path:
        """The self-contained report."""
        return self.root / "report.html"

    @property
    def best_path(self) -> Path:
        """The exported selection."""
        return self.root / "best"

    def write_trial(self, record: TrialRecord) -> None:
        """Write the record of an ended trial."""
        write_atomic(self.root / "trials" / f"{record.number:04d}.json", json.dumps(asdict(record), indent=1))

    def trial(self, number: int) -> TrialRecord:
        """The record of one trial.

        Raises:
            UsageError: when the study has none of that number.
        """
        for record in self.trials():
            if record.number == number:
                return record
        known = [record.number for record in self.trials()]
        raise UsageError(
            f"{self.root} has no trial {number}; it has {f'{known[0]} to {known[-1]}' if known else 'none'}"
        )

    def trials(self) -> list[TrialRecord]:
        """All records, by number."""
        return [TrialRecord(**_parsed(path)) for path in sorted((self.root / "trials").glob("[0-9]*.json"))]

    def environment(self) -> dict[str, Any]:
        """The parsed environment.json."""
        environment: dict[str, Any] = json.loads(self.environment_path.read_text())
        return environment

    def model(self) -> dict[str, Any]:
        """What environment.json says of the model: {name, kind, revision, key, ...}; empty where it says nothing."""
        model: dict[str, Any] = self.environment().get("model", {}) if self.environment_path.is_file() else {}
        return model

    def selection(self) -> dict[str, Any]:
        """The parsed selection.json, or an empty one where the study has not ended."""
        if not self.selection_path.is_file():
            return {}
        selection: dict[str, Any] = json.loads(self.selection_path.read_text())
        return selection


def _parsed(path: Path) -> dict[str, Any]:
    """The JSON object in a file of the study.

    Raises:
        UsageError: when it is damaged.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, or no text at all
        cure = "Move it out of the study folder; what it held is measured again."
        if path.match(BASE):
            cure = (
                "It is the record of the base, which all others were compared with: put back a copy, or begin the "
                "study anew in another folder."
            )
        raise UsageError(f"{path} is damaged ({error}). {cure}") from error
    return found
