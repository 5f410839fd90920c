"""The flows of a workflow of Olive as one search space, and as choices that are measured first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.export.export import float_refusal
from olivine.passes.providers import PROVIDERS
from olivine.search.config.space_mistakes import choice_mistakes, space_mistakes
from olivine.search.planning.olive.pass_reader import Values
from olivine.search.planning.olive.passes import meaning
from olivine.search.planning.olive.workflow import Notes, OlivePass, Workflow
from olivine.search.planning.presets import SearchScope, preset


def space_of(
    workflow: Workflow, provider: str, searching: bool, notes: Notes
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The search space over all flows, and the choice of each flow that has no axis to search."""
    flows = [_axes_of(flow, provider, searching, notes) for flow in workflow.flows]
    flows = [axes for index, axes in enumerate(flows) if axes and axes not in flows[:index]]
    if not flows:
        notes.lose("passes", "nothing in it says how a model is to be built: a usual search space stands in")
        usual = preset(provider if PROVIDERS[provider].refusal("int8") is None else "cpu", "decode", "", SearchScope())
        return dict(usual.space), [dict(choice) for choice in usual.enqueue]
    merged: Values = {}
    for axes in flows:
        for axis, values in axes.items():
            merged[axis] = tuple(dict.fromkeys([*merged.get(axis, ()), *values]))
    if provider != "cpu":
        merged["provider"] = (provider,)
    for axis in [axis for axis, values in merged.items() if LANGUAGE.axes[axis].base_inherits and len(values) > 1]:
        merged[axis] = merged[axis][:1]
    ordered = {axis: merged[axis] for axis in LANGUAGE.axes if axis in merged}
    space = {axis: list(values) if len(values) > 1 else values[0] for axis, values in ordered.items()}
    space = _without_unreachable(space, notes)
    choices = [_choice(axes, space) for axes in flows]
    return space, [choice for choice in choices if choice]


def _choice(axes: Values, space: dict[str, Any]) -> dict[str, Any]:
    """The choice of a flow, without what all candidates share; empty where it searches or lies outside of the space."""
    choice = {axis: values[0] for axis, values in axes.items() if axis in space}
    if any(len(values) > 1 for values in axes.values()) or choice_mistakes(choice, "choice", space, LANGUAGE):
        return {}
    return {
        axis: value for axis, value in choice.items() if axis != "provider" and not LANGUAGE.axes[axis].base_inherits
    }


def _axes_of(flow: Sequence[OlivePass], provider: str, searching: bool, notes: Notes) -> Values:
    """The axes of a sequence of passes: later passes override, integers outlive a float export."""
    axes: Values = {}
    fallback: Values = {}
    builds = False
    for olive_pass in flow:
        pass_axes = meaning(olive_pass, searching)
        if pass_axes.became:
            notes.keep(olive_pass.place, pass_axes.became)
            builds = True
        for name, why in pass_axes.lost:
            notes.lose(f"{olive_pass.place}{f'.{name}' if name else ''}", why)
        new = {axis: values for axis, values in pass_axes.fallback.items() if axis not in fallback}
        fallback = {**fallback, **new, **_precision(fallback, pass_axes.fallback)}
        axes = {**axes, **pass_axes.axes, **_precision(axes, pass_axes.axes)}
    if not builds:
        return {}
    precision = _combined(fallback.pop("precision", ()), axes.pop("precision", ()))
    axes = {**fallback, **axes, "precision": precision or (PROVIDERS[provider].floats[0],)}
    return _applying(_running(axes, provider, notes), provider, notes)


def _precision(before: Values, after: Values) -> Values:
    """The precision of two passes of one flow, where the later one names some."""
    if "precision" not in after:
        return {}
    return {"precision": _combined(before.get("precision", ()), after["precision"])}


def _combined(before: tuple[Scalar, ...], after: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
    """Precisions of two passes: mixed stays mixed, integers come before floats, else the later ones count."""
    if "mixed" in (*before, *after):
        return ("mixed",)
    integers = {"int8", "int4"}
    return after if integers & {*after} or (after and not integers & {*before}) else before


def _running(axes: Values, provider: str, notes: Notes) -> Values:
    """The axes with the precisions that run on the provider; its first float one where none does."""
    precisions, floats = axes["precision"], PROVIDERS[provider].floats[0]
    runs = tuple(word for word in precisions if float_refusal(provider, str(word)) is None)
    if runs != precisions:
        refused = ", ".join(str(word) for word in precisions if word not in runs)
        stand_in = ", ".join(map(str, runs)) or floats
        notes.lose("passes", f"precision {refused} does not run on {provider}; {stand_in} does")
    return {**axes, "precision": runs or (floats,)}


def _applying(axes: Values, provider: str, notes: Notes) -> Values:
    """The axes that exist with the values of the others."""
    left = dict(axes)
    space: dict[str, Any] = {"provider": provider, **{axis: list(values) for axis, values in left.items()}}
    for place, why in space_mistakes(space, LANGUAGE):
        axis = place.partition(".")[2]
        if left.pop(axis, None) is not None and axis not in ("algorithm", "block_size", "symmetric"):
            notes.lose(f"passes ({axis})", why)
    return left


def _without_unreachable(space: dict[str, Any], notes: Notes) -> dict[str, Any]:
    """The space without axes that no combination of all flows reaches."""
    left = dict(space)
    for place, why in space_mistakes(space, LANGUAGE):
        axis = place.partition(".")[2]
        if axis != "precision" and left.pop(axis, None) is not None:
            notes.lose(f"passes ({axis})", why)
    return left or {"precision": "fp32"}
