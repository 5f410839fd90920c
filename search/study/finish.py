"""The end of a study: confirm the front, select, write front.csv and selection.json, export, report."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from olivine.evaluators.providers.interpreters import process_options
from olivine.passes.base import Scalar
from olivine.passes.catalog import read_recipe
from olivine.passes.store.atomic_files import write_atomic
from olivine.search.builds.calibration_text import Calibration
from olivine.search.environment import HARDWARE, describe_environment
from olivine.search.export.folder import export_model, rebuild_command
from olivine.search.records import TrialRecord
from olivine.search.report.plots.front_svg import front_picture
from olivine.search.selection.ablation import ablate
from olivine.search.selection.confirm import Confirmation, confirm, shrinkage
from olivine.search.selection.lm_eval_tasks import confirm_tasks, without_samples
from olivine.search.selection.select import NoCandidate, Selection, select
from olivine.search.study.runner import StudyRunner

FRONT_METRICS = (
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
)
#: Column with the flavours of ONNX Runtime that ran a member, with their versions.
RUNTIME = "runtime"
#: Columns that say what the search itself had found.
SEARCHED = ("tpot_speedup", "ttft_speedup", "perplexity_ratio")
WITH_INTERVAL = ("tpot_speedup", "ttft_speedup", "perplexity_ratio")


def finish(search: StudyRunner) -> Selection:
    """Confirm, select and export; what a person looks at is written in every case.

    Raises:
        NoCandidate: when nothing meets the constraints.
    """
    confirmation = confirm(search)
    try:
        chosen: Selection | None = select(search.config, confirmation, search.records)
        nothing: NoCandidate | None = None
    except NoCandidate as error:
        chosen, nothing = None, error
    write_atomic(search.folder.front_path, front_csv(search, confirmation, chosen))
    write_atomic(
        search.folder.selection_path,
        json.dumps(selection_json(search, confirmation, chosen, nothing), indent=1),
    )
    if chosen is None or nothing is not None:
        assert nothing is not None
        if search.folder.best_path.exists():
            search.progress.note(f"{search.folder.best_path} is what an earlier run selected; nothing was selected now")
        raise nothing
    tasks = confirm_tasks(search, confirmation)
    if tasks:
        write_atomic(search.folder.selection_path, json.dumps(search.folder.selection() | {"tasks": tasks}, indent=1))
    search.progress.phase_started("export")
    artifact = search.objective.build(read_recipe(chosen.record.recipe), "export")
    options = process_options(read_recipe(chosen.record.recipe).provider, search.config.pythons())
    picture = front_picture(search.folder)
    about = manifest(search, chosen, tasks)
    export_model(artifact, search.folder.best_path, about, force=True, process=options, picture=picture)
    if search.config.confirm.ablation:
        said = search.folder.selection() | {"ablation": [one.to_json() for one in ablate(search, chosen.record)]}
        write_atomic(search.folder.selection_path, json.dumps(said, indent=1))
    return chosen


def front_csv(search: StudyRunner, confirmation: Confirmation, chosen: Selection | None) -> str:
    """A row per confirmed front member and for the selected one: searched axes, confirmed metrics with intervals."""
    axes = search.config.search_space().searched
    return front_rows(axes, FRONT_METRICS, WITH_INTERVAL, SEARCHED, confirmation, chosen)


def front_rows(
    axes: Sequence[str],
    metrics: Sequence[str],
    with_interval: Sequence[str],
    searched: Sequence[str],
    confirmation: Confirmation,
    chosen: Selection | None,
) -> str:
    """The text of front.csv: the front, and the selected member, which ``select.where`` may have put off it.

    Args:
        axes: searched axes, each a column.
        metrics: confirmed metrics, each a column.
        with_interval: those of them that have columns for their ends.
        searched: those that have a column for what the search itself had found.
        confirmation: what was measured again.
        chosen: the selected member, if there is one.
    """
    columns = ["trial", "selected", *axes]
    for metric in metrics:
        columns += [metric, f"{metric}_low", f"{metric}_high"] if metric in with_interval else [metric]
    columns.append(RUNTIME)
    columns += ["dominated_probability", *(f"{metric}_search" for metric in searched)]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for record, measured in confirmation.members:
        selected = chosen is not None and record.number == chosen.record.number
        if record.number not in confirmation.front and not selected:
            continue
        row: dict[str, Any] = {"trial": record.number, "selected": selected}
        row |= {axis: record.params.get(axis, "") for axis in axes} | {RUNTIME: record.runtime}
        for metric in metrics:
            found = measured[metric]
            row[metric] = f"{found.value:.6g}" if found.unit != "bytes" else int(found.value)
            if metric in with_interval:
                row |= {f"{metric}_low": f"{found.low:.6g}", f"{metric}_high": f"{found.high:.6g}"}
        row["dominated_probability"] = f"{confirmation.dominated.get(record.number, 0.0):.3g}"
        row |= {f"{metric}_search": f"{record.value(metric):.6g}" for metric in searched if metric in record.metrics}
        writer.writerow(row)
    return text.getvalue()


def selection_json(
    search: StudyRunner, confirmation: Confirmation, chosen: Selection | None, nothing: NoCandidate | None
) -> dict[str, Any]:
    """What selection.json holds; see :attr:`StudyDir.selection_path`."""
    return {
        "trial": chosen.record.number if chosen else None,
        "reason": chosen.reason if chosen else str(nothing),
        "warnings": list(chosen.warnings) if chosen else [],
        "confirmed": {
            str(record.number): {name: asdict(m) for name, m in metrics.items()}
            for record, metrics in confirmation.members
        },
        "front": list(confirmation.front),
        "dominated_probability": {str(number): p for number, p in confirmation.dominated.items()},
        "measured": {str(number): count for number, count in confirmation.measured.items()},
        "shrinkage": shrinkage(confirmation, SEARCHED),
        "default_threads": {name: asdict(m) for name, m in confirmation.default_threads.items()},
        "rebuild": _rebuild(search, chosen.record) if chosen else "",
    }


def manifest(search: StudyRunner, chosen: Selection, tasks: Mapping[str, Any]) -> dict[str, Any]:
    """What olivine.json says of an exported candidate, beside its files."""
    measured = {name: asdict(m) for name, m in chosen.metrics.items()}
    measured |= tasks.get("measured", {}).get(str(chosen.record.number), {})
    said = {"reason": chosen.reason, "warnings": list(chosen.warnings)}
    return about_model(search, chosen.record, without_samples(measured)) | {"selection": said}


def about_model(search: StudyRunner, record: TrialRecord, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Source, recipe, measurements, versions, hardware and the command that rebuilds the same bytes."""
    environment = describe_environment()
    return {
        "model": search.folder.environment()["model"] | {"source": search.config.model},
        "recipe": record.recipe,
        "recipe_key": record.recipe_key,
        "study": {"name": search.config.name, "trial": record.number},
        "measurements": metrics,
        "versions": environment["versions"],
        "hardware": {name: environment[name] for name in HARDWARE},
        "rebuild": _rebuild(search, record),
        **({"calibration": calibration.to_json()} if (calibration := _calibration(search, record)) else {}),
    }


def _rebuild(search: StudyRunner, record: TrialRecord) -> str:
    config, calibration = search.config, _calibration(search, record)
    commit = search.folder.model().get("revision")
    return rebuild_command(config.model, commit, config.trust_remote_code, pinned_choice(record), calibration)


def _calibration(search: StudyRunner, record: TrialRecord) -> Calibration | None:
    """What the candidate learned from, if it did."""
    return search.calibration if read_recipe(record.recipe).needs_calibration else None


def pinned_choice(record: TrialRecord) -> dict[str, Scalar]:
    """The choice behind a record, with the threads it ran with rather than "all cores" of another machine."""
    options: dict[str, Scalar] = next(
        (step["params"] for step in record.recipe if step["name"] == "session_options"), {}
    )
    return {**record.params, **({"threads": options["threads"]} if "threads" in options else {})}
