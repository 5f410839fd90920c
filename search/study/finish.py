"""The end of a study: confirm the front, select, write front.csv and selection.json, export, report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.providers.interpreters import process_options
from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.parity.proof import notes_among, proof_among
from olivine.passes.recipe import Recipe
from olivine.passes.store.atomic_files import write_atomic
from olivine.search.builds.calibration_text import Calibration
from olivine.search.environment import HARDWARE, describe_environment
from olivine.search.export.folder import export_model, rebuild_command
from olivine.search.front_csv import FrontColumns, front_csv
from olivine.search.records import StudyOutcome, TaskScores, TrialRecord, metrics_json
from olivine.search.report.plots.front_svg import front_picture
from olivine.search.selection.ablation import ablate
from olivine.search.selection.confirm import Confirmation, confirm, shrinkage
from olivine.search.selection.lm_eval_tasks import asked_tasks, score_tasks, trials_to_score
from olivine.search.selection.select import NoCandidate, Selection, select
from olivine.search.study.baseline import base_choice
from olivine.search.study.runner import StudyRunner
from olivine.search.workloads.language import make_evaluators

#: Columns of front.csv for language models.
FRONT = FrontColumns(
    metrics=(
        "tpot_ms",
        "tpot_speedup",
        "ttft_ms",
        "ttft_speedup",
        "perplexity",
        "perplexity_ratio",
        "kl_divergence",
        "top1_agreement",
        "model_bytes",
        "peak_rss_bytes",
    ),
    with_interval=("tpot_speedup", "ttft_speedup", "perplexity_ratio"),
    searched=("tpot_speedup", "ttft_speedup", "perplexity_ratio"),
)


def finish(search: StudyRunner) -> Selection:
    """Confirm, select and export; what a person looks at is written in every case.

    Raises:
        NoCandidate: when nothing meets the constraints.
    """
    measurer = LanguageMeasurer(search)
    confirmation = confirm(measurer, search.records, search.config, search.progress)
    try:
        chosen: Selection | None = select(search.config, confirmation, search.records)
        nothing: NoCandidate | None = None
    except NoCandidate as error:
        chosen, nothing = None, error
    outcome = outcome_of(
        confirmation, chosen or nothing, FRONT.searched, _rebuild(search, chosen.record) if chosen else ""
    )
    axes = search.config.search_space().searched
    write_atomic(search.folder.front_path, front_csv(axes, FRONT, search.records, outcome))
    search.folder.write_outcome(outcome)
    if chosen is None or nothing is not None:
        assert nothing is not None
        if search.folder.best_path.exists():
            search.progress.note(f"{search.folder.best_path} is what an earlier run selected; nothing was selected now")
        raise nothing
    if search.config.evaluation.lm_eval is not None:
        scored = trials_to_score(search.records, outcome)
        tasks = asked_tasks(search.config.evaluation.lm_eval)
        outcome = replace(outcome, tasks=score_tasks(tasks, measurer, scored, search.progress))
        search.folder.write_outcome(outcome)
    search.progress.phase_started("export")
    artifact = search.objective.build(chosen.record.recipe, "export")
    options = process_options(chosen.record.recipe.provider, search.config.pythons())
    picture = front_picture(search.folder)
    about = manifest(search, chosen, outcome.tasks)
    export_model(artifact, search.folder.best_path, about, force=True, process=options, picture=picture)
    if search.config.confirm.ablation:
        base = base_choice(search.config)
        parts = ablate(measurer, LANGUAGE, chosen.record.params, base, search.progress)
        search.folder.write_outcome(replace(outcome, ablation=tuple(parts)))
    return chosen


class LanguageMeasurer:
    """Measures recipes of a study of language models again, on the held-back text."""

    def __init__(self, search: StudyRunner) -> None:
        self._search, self._objective, self._pool = search, search.objective, search.base_times.snapshot()
        self._evaluators = make_evaluators(
            search.config, self._objective.base_artifact(), search.folder, "confirm", self._pool
        )

    def remeasure(self, recipe: Recipe, name: str) -> dict[str, Measurement]:
        """Every metric of a recipe."""
        return self._objective.remeasure(recipe, name, self._evaluators)

    def retime(self, recipe: Recipe, name: str, repetition: int) -> list[Measurement]:
        """Latency alone, with other random choices than in earlier repetitions."""
        latency = self._evaluators.latency
        return self._objective.retime(recipe, name, replace(latency, seed=latency.seed + 1000 * repetition))

    @property
    def base_is_usual(self) -> bool:
        """True where the base has the one thread that GenAI takes by default."""
        return base_choice(self._search.config).get("threads", 1) == 1

    def time_usual(self) -> list[Measurement]:
        """Latency of the base with the one thread that GenAI takes by default."""
        return self._objective.time_choice({**base_choice(self._search.config), "threads": 1})

    def scored(self, recipe: Recipe, name: str) -> AbstractContextManager[tuple[ModelProcess, Path]]:
        """A fresh process that scores a recipe's model, and the folder of the model."""
        return self._objective.scored(recipe, name)


def outcome_of(
    confirmation: Confirmation, chosen: Selection | NoCandidate | None, searched: Sequence[str], rebuild: str = ""
) -> StudyOutcome:
    """The content of selection.json.

    Args:
        confirmation: the members measured again.
        chosen: the selection, or why there is none.
        searched: metrics whose shrinkage is told.
        rebuild: the command that builds the selected trial again.
    """
    selected = chosen if isinstance(chosen, Selection) else None
    return StudyOutcome(
        trial=selected.record.number if selected else None,
        reason=selected.reason if selected else str(chosen),
        warnings=selected.warnings if selected else (),
        confirmed={record.number: metrics for record, metrics in confirmation.members},
        front=confirmation.front,
        dominated_probability=confirmation.dominated,
        measured=confirmation.measured,
        shrinkage=shrinkage(confirmation, searched),
        default_threads=confirmation.default_threads,
        rebuild=rebuild,
    )


def manifest(search: StudyRunner, chosen: Selection, tasks: TaskScores | None) -> dict[str, Any]:
    """What olivine.json says of an exported candidate, beside its files."""
    scores = tasks.measured.get(chosen.record.number, {}) if tasks else {}
    about = about_model(search, chosen.record, metrics_json({**chosen.metrics, **scores}, samples=False))
    return about | {"selection": {"reason": chosen.reason, "warnings": list(chosen.warnings)}}


def about_model(search: StudyRunner, record: TrialRecord, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Source, recipe, measurements, versions, hardware and the command that rebuilds the same bytes."""
    environment = describe_environment()
    return {
        "model": search.folder.environment()["model"] | {"source": search.config.model},
        "recipe": record.recipe.to_json(),
        "recipe_key": record.recipe_key,
        "study": {"name": search.config.name, "trial": record.number},
        "measurements": metrics,
        "versions": environment["versions"],
        "hardware": {name: environment[name] for name in HARDWARE},
        "rebuild": _rebuild(search, record),
        **({"calibration": calibration.to_json()} if (calibration := _calibration(search, record)) else {}),
        **({"base_agreement": dict(proof)} if (proof := proof_among(record.passes)) else {}),
        **({"notes": notes} if (notes := notes_among(record.passes)) else {}),
    }


def _rebuild(search: StudyRunner, record: TrialRecord) -> str:
    config, calibration = search.config, _calibration(search, record)
    commit = search.folder.model().get("revision")
    return rebuild_command(config.model, commit, config.trust_remote_code, pinned_choice(record), calibration)


def _calibration(search: StudyRunner, record: TrialRecord) -> Calibration | None:
    """What the candidate learned from, if it did."""
    return search.calibration if record.recipe.needs_calibration else None


def pinned_choice(record: TrialRecord) -> dict[str, Scalar]:
    """The choice behind a record, with the threads it ran with rather than "all cores" of another machine."""
    threads = record.recipe.threads
    return {**record.params, **({"threads": threads} if threads else {})}
