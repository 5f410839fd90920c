"""The end of a plain study: confirm the front on held-back samples, select, write front.csv, export."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.metric import TASK_METRICS
from olivine.evaluators.process.client import ModelProcess
from olivine.passes.errors import UsageError
from olivine.passes.parity.proof import proof_among
from olivine.passes.recipe import Recipe
from olivine.passes.store.atomic_files import write_atomic
from olivine.search.environment import HARDWARE, describe_environment
from olivine.search.export.graph_folder import export_plain
from olivine.search.front_csv import FrontColumns, front_csv
from olivine.search.records import TrialRecord, metrics_json
from olivine.search.selection.confirm import confirm
from olivine.search.selection.select import NoCandidate, Selection, select
from olivine.search.study.finish import outcome_of
from olivine.search.workloads.graph_study import GraphStudyRunner

#: Columns of front.csv for plain graphs.
FRONT = FrontColumns(
    metrics=(
        "latency_ms",
        "latency_speedup",
        "cosine_distance",
        "kl_divergence",
        "top1_agreement",
        *TASK_METRICS,
        "model_bytes",
        "peak_rss_bytes",
    ),
    with_interval=("latency_speedup", "cosine_distance", *TASK_METRICS),
    searched=("latency_speedup", "cosine_distance", "task_score"),
)


def finish(search: GraphStudyRunner) -> Selection:
    """Confirm, select and export; what a person looks at is written in every case.

    Raises:
        NoCandidate: when nothing meets the constraints.
    """
    confirmation = confirm(GraphMeasurer(search), search.records, search.config, search.progress)
    chosen: Selection | None = None
    nothing: NoCandidate | None = None
    try:
        chosen = select(search.config, confirmation, search.records)
    except NoCandidate as error:
        nothing = error
    outcome = outcome_of(confirmation, chosen or nothing, FRONT.searched)
    axes = search.config.search_space().searched
    write_atomic(search.folder.front_path, front_csv(axes, FRONT, search.records, outcome))
    search.folder.write_outcome(outcome)
    if chosen is None:
        assert nothing is not None
        raise nothing
    search.progress.phase_started("export")
    artifact = search.objective.build(chosen.record.recipe, "export")
    measurements = metrics_json(chosen.metrics, samples=False)
    about = manifest(search.config.name, search.source.about(), search.config.model, chosen.record, measurements)
    samples = search.objective.samples
    export_plain(artifact.path, search.folder.best_path, about, samples.timed, True, search.objective.process_options())
    return chosen


class GraphMeasurer:
    """Measures recipes of a study of plain graphs again, on the held-back samples."""

    def __init__(self, search: GraphStudyRunner) -> None:
        self._objective = search.objective
        self._latency = search.objective.latency(search.config.confirm.max_seconds, seed=1)

    def remeasure(self, recipe: Recipe, name: str) -> dict[str, Measurement]:
        """Every metric of a recipe."""
        return self._objective.remeasure(recipe, name, self._latency)

    def retime(self, recipe: Recipe, name: str, repetition: int) -> list[Measurement]:
        """Latency alone, with other random choices than in earlier repetitions."""
        return self._objective.retime(recipe, name, self._latency, 1000 * repetition)

    @property
    def base_is_usual(self) -> bool:
        """True: the base has the threads that ONNX Runtime takes by default."""
        return True

    def time_usual(self) -> list[Measurement]:
        """Nothing: the base has the threads that ONNX Runtime takes by default."""
        return []

    def scored(self, recipe: Recipe, name: str) -> AbstractContextManager[tuple[ModelProcess, Path]]:
        """No text is scored.

        Raises:
            UsageError: always.
        """
        raise UsageError("lm-eval's tasks are for language models")


def manifest(name: str, model: Any, source: str, record: TrialRecord, measurements: Any) -> dict[str, Any]:
    """What olivine.json says of an exported candidate, beside its files."""
    environment = describe_environment()
    return {
        "kind": "plain",
        "model": {**model, "source": source},
        "recipe": record.recipe.to_json(),
        "recipe_key": record.recipe_key,
        "study": {"name": name, "trial": record.number},
        "measurements": measurements,
        "versions": environment["versions"],
        "hardware": {part: environment[part] for part in HARDWARE},
        **({"base_agreement": dict(proof)} if (proof := proof_among(record.passes)) else {}),
    }
