"""Ablation: what each ingredient of the selected recipe brought, measured by leaving it out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

from olivine.evaluators.metric import COLUMNS
from olivine.passes.base import Scalar
from olivine.passes.catalog import Catalog
from olivine.passes.errors import OlivineError
from olivine.search.records import LeftOut, Metrics
from olivine.search.report.progress import Progress
from olivine.search.selection.measurer import Measurer, try_to_measure


def without_each(
    catalog: Catalog, choice: Mapping[str, Scalar], base: Mapping[str, Scalar]
) -> Iterator[tuple[str, dict[str, Scalar]]]:
    """Every axis with an ingredient of ``choice``, and the choice that leaves it out.

    Values that build the same recipe are no ingredient; nor is the precision, without which the base remains, nor what
    the base has too.
    """
    known = {catalog.compose(choice).key, catalog.compose(base).key}
    for name, value in choice.items():
        axis = catalog.axes[name]
        ablated = axis.default_for(choice) if axis.ablated_value is None else axis.ablated_value
        changed = {**choice, name: ablated}
        ingredient = name != "precision" and not axis.base_inherits
        if ingredient and value != ablated and catalog.compose(changed).key not in known:
            yield name, changed


def ablate(
    measurer: Measurer,
    catalog: Catalog,
    selected: Mapping[str, Scalar],
    base: Mapping[str, Scalar],
    progress: Progress,
) -> list[LeftOut]:
    """Measure the selected choice without each of its ingredients, as the front was confirmed.

    Args:
        measurer: measures recipes.
        catalog: of the axes.
        selected: the choice.
        base: that of the float base.
        progress: told of each phase and failure.
    """
    parts = []
    for axis, choice in without_each(catalog, selected, base):
        progress.phase_started(f"ablation: {axis} {choice[axis]} instead of {selected[axis]}")
        measured = try_to_measure(partial(measurer.remeasure, catalog.compose(choice), "ablation"))
        metrics: Metrics = {}
        reason = ""
        if isinstance(measured, OlivineError):
            reason = str(measured)
            progress.note(f"without {axis} {selected[axis]} the recipe does not run: {reason}")
        else:
            metrics = {name: replace(measured[name], samples=()) for name in COLUMNS if name in measured}
        parts.append(LeftOut(axis, selected[axis], choice[axis], metrics, reason))
    return parts
