"""report.html: one self-contained file that shows a study, ended or not; and the front's picture alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from olivine.evaluators.metric import COLUMNS
from olivine.passes.errors import UsageError
from olivine.passes.store.atomic_files import write_atomic
from olivine.search.pareto import hypervolume_history, nearest_misses, violation
from olivine.search.records import TrialRecord
from olivine.search.report.formatting import (
    duration_text,
    heading,
    interval_text,
    measured_text,
    params_text,
    scalar_text,
    shown_metrics,
    title,
    varying,
)
from olivine.search.report.importance import importances
from olivine.search.report.plots.colors import css_variables
from olivine.search.report.plots.front import draw_front, plot_pairs
from olivine.search.report.plots.front_svg import front_picture, front_svg, legend
from olivine.search.report.plots.history_svg import history_svg
from olivine.search.report.plots.svg_axes import PLOT_STYLE
from olivine.search.report.sections import (
    ablation,
    confirmation,
    default_threads,
    dropped,
    peers_section,
    table_by_text,
    tasks,
)
from olivine.search.report.study_view import StudyView, read_view
from olivine.search.report.summary import flat, protocols, summary, tiles
from olivine.search.study_dir import StudyDir

TEMPLATE = "report.html.j2"
#: Tones that the style has for phases.
PHASE_TONES = 6


def write_report(study: StudyDir) -> Path:
    """Write ``report.html`` into the study folder."""
    write_atomic(study.report_path, render(study))
    return study.report_path


def require_front_picture(study: StudyDir) -> str:
    """The front as an SVG of its own, for a README; it follows the reader's light or dark setting.

    Raises:
        UsageError: when no candidate was measured in both objectives.
    """
    picture = front_picture(study)
    if not picture:
        x, y = plot_pairs(read_view(study).objectives)[0]
        raise UsageError(f"{study.root} has no candidate with both {x} and {y}: there is no front to draw yet")
    return picture


def render(study: StudyDir) -> str:
    """The report as HTML. Everything that a study brings is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        title=title, heading=heading, duration=duration_text, scalar=scalar_text, interval=interval_text
    )
    view = read_view(study)
    drawings = [draw_front(view, x, y) for x, y in plot_pairs(view.objectives)]
    history = hypervolume_history([r for r in view.records if r.number > 0], view.objectives)
    numbers = [record.number for record in view.records if record.number > 0]
    return environment.get_template(TEMPLATE).render(
        view=view,
        colors=Markup(css_variables()),
        plot_style=Markup(PLOT_STYLE),
        summary=summary(view),
        tiles=tiles(view),
        plots=[
            {
                "wide": Markup(front_svg(drawing)),
                "narrow": Markup(front_svg(drawing, width=400, height=420)),
            }
            for drawing in drawings
        ],
        legend=[(Markup(symbol), words) for symbol, words in legend(drawings[0])],
        unplotted=len(view.records) - len(drawings[0].points),
        misses=_misses(view),
        table=_table(view),
        importances=importances(study, view.objectives),
        history={
            "wide": Markup(history_svg(numbers, history)),
            "narrow": Markup(history_svg(numbers, history, width=400)),
        },
        timing=_timing(view),
        protocols=protocols(view),
        environment=flat(view.environment),
        masked=study.masked_kernels(),
        recipe=view.selected.recipe.to_json() if view.selected else [],
        default_threads=default_threads(view),
        ablation=ablation(view),
        confirmation=confirmation(view),
        dropped=dropped(view),
        by_text=table_by_text(view.outcome.confirmed),
        tasks=tasks(view),
        peers=peers_section(study),
    )


def _table(view: StudyView) -> dict[str, Any]:
    """The all-trials table: columns, and rows of (text, sort key) cells."""
    metrics = shown_metrics(view.records, view.objectives, COLUMNS)
    axes = varying(view.records)
    members = {member.number for member in view.members}
    rows = []
    for record in view.records:
        shown = view.shown(record)
        cells = [
            (measured_text(entry), entry.value) if entry else ("", "")
            for metric in metrics
            for entry in [shown.metrics.get(metric)]
        ]
        seconds = record.build_seconds + record.evaluate_seconds
        rows.append(
            {
                "number": record.number,
                "state": record.state,
                "badge": _badge(view, record, members),
                "cells": cells,
                "seconds": seconds,
                "params": params_text(record.params, axes) or "base",
                "reason": record.reason,
            }
        )
    return {"metrics": metrics, "rows": rows, "fixed": _fixed(view, axes)}


def _badge(view: StudyView, record: TrialRecord, members: set[int]) -> str:
    if record.number == view.outcome.trial:
        return "selected"
    if record.number == 0:
        return "base"
    return "front" if record.number in members else ""


def _fixed(view: StudyView, axes: list[str]) -> str:
    """Parameters that are the same in every trial: said once below the table, not in each row."""
    return params_text({k: v for r in view.records for k, v in r.params.items() if k not in axes})


def _misses(view: StudyView) -> list[dict[str, Any]]:
    """The nearest misses, where no candidate keeps the constraints."""
    if view.members:
        return []
    return [
        {
            "number": record.number,
            "params": params_text(record.params, varying(view.records)),
            "reason": record.reason,
            "violation": violation(record),
        }
        for record in nearest_misses(view.records, 5)
    ]


def _timing(view: StudyView) -> dict[str, Any]:
    """Seconds per trial and phase, and the scale that the longest trial gives."""
    phases = list(dict.fromkeys(name for record in view.records for name in record.phases))
    longest = max((sum(record.phases.values()) for record in view.records), default=0.0)
    return {
        "phases": [(name, sum(record.phases.get(name, 0.0) for record in view.records)) for name in phases],
        "index": {name: index % PHASE_TONES for index, name in enumerate(phases)},
        "rows": [(r.number, [(name, r.phases.get(name, 0.0)) for name in phases]) for r in view.records],
        "longest": longest or 1.0,
    }
