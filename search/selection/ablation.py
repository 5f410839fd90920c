"""Ablation: what each ingredient of the selected recipe brought, measured by leaving it out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from olivine.evaluators.metric import COLUMNS
from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import OlivineError
from olivine.search.records import LeftOut, Metrics, TrialRecord
from olivine.search.study.baseline import base_choice
from olivine.search.study.runner import StudyRunner
from olivine.search.workloads.language import make_evaluators


def without_each(choice: Mapping[str, Scalar], base: Mapping[str, Scalar]) -> Iterator[tuple[str, dict[str, Scalar]]]:
    """Every axis with an ingredient of ``choice``, and the choice that leaves it out.

    Values that build the same recipe are no ingredient; nor is the precision, without which the base remains.
    """
    known = {LANGUAGE.compose(choice).key, LANGUAGE.compose(base).key}
    for name, value in choice.items():
        axis = LANGUAGE.axes[name]
        plain = axis.default_for(choice) if axis.ablated_value is None else axis.ablated_value
        changed = {**choice, name: plain}
        if name != "precision" and value != plain and LANGUAGE.compose(changed).key not in known:
            yield name, changed


def ablate(search: StudyRunner, record: TrialRecord) -> list[LeftOut]:
    """Measure the recipe of ``record`` without each of its ingredients, as the front was confirmed."""
    objective = search.objective
    pool = search.base_times.snapshot()
    evaluators = make_evaluators(search.config, objective.base_artifact(), search.folder, "confirm", pool)
    found = []
    for axis, choice in without_each(record.params, base_choice(search.config)):
        search.progress.phase_started(f"ablation: {axis} {choice[axis]} instead of {record.params[axis]}")
        variant = replace(record, recipe=LANGUAGE.compose(choice))
        metrics: Metrics = {}
        reason = ""
        try:
            measured = objective.remeasure(variant, evaluators)
            metrics = {name: replace(measured[name], samples=()) for name in COLUMNS if name in measured}
        except OlivineError as error:
            reason = str(error)
            search.progress.note(f"without {axis} {record.params[axis]} the recipe does not run: {error}")
        found.append(LeftOut(axis, record.params[axis], choice[axis], metrics, reason))
    return found
