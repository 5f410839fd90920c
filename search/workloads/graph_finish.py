"""The end of a plain study: confirm the front on held-back samples, select, write front.csv, export."""

from __future__ import annotations

from typing import Any

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.metric import TASK_METRICS
from olivine.passes.errors import OlivineError, SourceError, Unwritable
from olivine.passes.store.atomic_files import write_atomic
from olivine.search.environment import HARDWARE, describe_environment
from olivine.search.export.graph_folder import export_plain
from olivine.search.front_csv import FrontColumns, front_csv
from olivine.search.records import TrialRecord, metrics_json
from olivine.search.selection.confirm import Confirmation, keeping, unless_lost
from olivine.search.selection.contenders import to_confirm
from olivine.search.selection.dominance import SURE, dominated_among
from olivine.search.selection.racing import race
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

Members = list[tuple[TrialRecord, dict[str, Measurement]]]


def finish(search: GraphStudyRunner) -> Selection:
    """Confirm, select and export; what a person looks at is written in every case.

    Raises:
        NoCandidate: when nothing meets the constraints.
    """
    confirmation = confirm(search)
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


def confirm(search: GraphStudyRunner) -> Confirmation:
    """Measure contenders again, in fresh processes, on held-back samples; time near-ties on."""
    config, objective = search.config, search.objective
    latency = objective.latency(config.confirm.max_seconds, seed=1)
    chosen = to_confirm(search.records, config)
    members: Members = []
    failures = []
    for position, record in enumerate(chosen, start=1):
        search.progress.phase_started(f"confirm {position}/{len(chosen)}: trial {record.number}")
        try:
            members.append((record, objective.remeasure(record, latency)))
        except (Unwritable, SourceError):
            raise
        except OlivineError as error:
            failures.append(f"Trial {record.number} ran in the search, but failed in confirmation: {error}")
            search.progress.note(failures[-1])
    limits = config.parsed_constraints()
    feasible = keeping(members, limits)
    measured = _race(search, feasible)
    feasible = keeping(feasible, limits)  # a race changes what is known
    beaten = dominated_among([found for _, found in feasible], config.objectives)
    dominated = {record.number: p for (record, _), p in zip(feasible, beaten, strict=True)}
    front = tuple(number for number, probability in dominated.items() if probability < SURE)
    return Confirmation(tuple(members), front, {}, tuple(failures), dominated, measured)


def _race(search: GraphStudyRunner, members: Members) -> dict[int, int]:
    """Time near-ties on; trial number -> how often it was measured."""
    config, objective = search.config, search.objective

    def again(index: int, before: int) -> list[Measurement]:
        record = members[index][0]
        search.progress.phase_started(f"confirm: trial {record.number} is nearly tied, measured again")
        latency = objective.latency(config.confirm.max_seconds, seed=1)
        return unless_lost(search.progress, lambda: objective.retime(record, latency, 1000 * before))

    measured = race([found for _, found in members], config.objectives, again, config.confirm.race or 0.0)
    return {record.number: count for (record, _), count in zip(members, measured, strict=True)}


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
    }
