"""Mistakes in a ``space:`` section, or in one choice of axis values, as (place, message) pairs."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from olivine.passes.base import Axis
from olivine.passes.catalog import Catalog
from olivine.passes.errors import did_you_mean
from olivine.passes.export.export import float_refusal
from olivine.passes.quantize.embedding import head_refusal
from olivine.search.config.mistakes import Mistake
from olivine.search.config.quantities import EXPONENT, describe
from olivine.search.config.space import parse_space

#: A range is refused beyond this many values: a larger step says the same.
MAX_RANGE = 10_000
_RANGE_KEYS = ("low", "high", "step")


def space_mistakes(raw: Mapping[Any, Any], catalog: Catalog) -> list[Mistake]:
    """Find every mistake in a ``space:`` section of this catalog."""
    if not raw:
        return [("space", no_axis(catalog))]
    return _axes_mistakes(raw, "space", False, catalog) or _combination_mistakes(raw, list(raw), "space", catalog)


def choice_mistakes(raw: Mapping[Any, Any], place: str, space: Mapping[Any, Any], catalog: Catalog) -> list[Mistake]:
    """Find every mistake in one choice; axes that it does not name have the usual values of a sound ``space``."""
    mistakes = _axes_mistakes(raw, place, True, catalog)
    if mistakes or _axes_mistakes(space, "space", False, catalog):
        return mistakes
    return _combination_mistakes({**parse_space(space, catalog).usual(), **raw}, list(raw), place, catalog)


def differing_from_base(
    raw: Mapping[Any, Any], place: str, space: Mapping[Any, Any], catalog: Catalog
) -> list[Mistake]:
    """Find the values of one choice that the study's base, which ``space`` describes, would not have."""
    if _axes_mistakes(space, "space", False, catalog):
        return []
    usual = parse_space(space, catalog).usual()
    return [
        (f"{place}.{name}", f"differs from the float base, which has it too. Write space.{name}: {_spelled(value)}.")
        for name, value in raw.items()
        if (axis := catalog.axes.get(str(name))) is not None
        and axis.base_inherits
        and not _searched(space.get(axis.name), axis)
        and value != usual.get(axis.name, axis.default if axis.newer_default is None else axis.newer_default)
    ]


def _searched(values: Any, axis: Axis) -> bool:
    """True where a study searches several values of what the base has too."""
    return axis.base_value is not None and isinstance(values, list) and len(values) > 1


def no_axis(catalog: Catalog) -> str:
    """The message where no axis is named."""
    return f"names no axis. Available: {', '.join(catalog.axes)}."


def _axes_mistakes(raw: Mapping[Any, Any], place: str, fixed: bool, catalog: Catalog) -> list[Mistake]:
    mistakes: list[Mistake] = []
    for name, values in raw.items():
        axis = catalog.axes.get(str(name))
        messages = (
            [f"unknown axis. {did_you_mean(name, catalog.axes)}"]
            if axis is None
            else _axis_mistakes(axis, values, fixed)
        )
        mistakes += [(f"{place}.{name}", message) for message in messages]
    return mistakes


def _axis_mistakes(axis: Axis, values: Any, fixed: bool) -> list[str]:
    """Mistakes in what a YAML gives one axis: a value; unless the axis is ``fixed``, a list or a range as well."""
    if fixed and isinstance(values, dict | list):
        return [f"takes one value here; found {describe(values)}"]
    if isinstance(values, dict):
        return _range_mistakes(axis, values)
    if not isinstance(values, list):
        return _value_mistakes(axis, values)
    if not values:
        return [f"is an empty list. {_fits(axis)}"]
    twice = [value for index, value in enumerate(values) if value in values[:index]]
    mistakes = [message for value in values for message in _value_mistakes(axis, value)]
    if axis.base_inherits and axis.base_value is None and len(values) > 1 and not mistakes and not twice:
        word = _spelled(values[0])
        return [f"takes one value in a study, since the float base has it too. Write {axis.name}: {word}."]
    return mistakes + [f"names {_spelled(value)} twice" for value in twice]


def _value_mistakes(axis: Axis, value: Any) -> list[str]:
    if isinstance(value, dict | list) or value is None:
        return [f"takes single values; found {describe(value)}. {_fits(axis)}"]
    if axis.kind == "bool":
        return [] if isinstance(value, bool) else [f"takes true or false; found {describe(value)}"]
    if axis.kind == "choice":
        return _choice_mistakes(axis, value)
    whole = axis.kind == "int"
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or (whole and value != int(value)):
        hint = _number_hint(value)
        return [f"takes {'whole numbers' if whole else 'numbers'}; found {describe(value)}{hint}"]
    low, high = axis.bounds or (-math.inf, math.inf)
    return [] if low <= value <= high else [f"{value:g} is outside {low:g} .. {high:g}"]


def _choice_mistakes(axis: Axis, value: Any) -> list[str]:
    if any(value == known and isinstance(value, bool) == isinstance(known, bool) for known in axis.values):
        return []
    if isinstance(value, str) and any(value == str(known) for known in axis.values):
        return [f"takes the number {value}; found the text '{value}': leave the quotes out"]
    if isinstance(value, bool):
        word = f"{describe(value)} (YAML reads yes, no, on and off so; quotes keep the word)"
        return [f"unknown value {word}. {_fits(axis)}"]
    return [f"unknown value {_spelled(value)}. {did_you_mean(value, axis.values)}"]


def _range_mistakes(axis: Axis, bounds: Mapping[Any, Any]) -> list[str]:
    if axis.kind not in ("int", "float"):
        return [f"takes no range, since its values are no numbers. {_fits(axis)}"]
    mistakes = [
        f"unknown key '{key}' in a range. {did_you_mean(key, _RANGE_KEYS)}" for key in bounds if key not in _RANGE_KEYS
    ]
    mistakes += [f"a range needs '{key}'" for key in ("low", "high") if key not in bounds]
    for key in ("low", "high"):
        mistakes += [f"{key} {message}" for message in (_value_mistakes(axis, bounds[key]) if key in bounds else [])]
    step = bounds.get("step", 1)
    mistakes += _step_mistakes(axis, step)
    if mistakes:
        return mistakes
    if bounds["low"] > bounds["high"]:
        return [f"low {bounds['low']} is above high {bounds['high']}"]
    if ("step" in bounds or axis.kind == "int") and (bounds["high"] - bounds["low"]) / step >= MAX_RANGE:
        return [f"has more than {MAX_RANGE} values: take a larger step"]
    return []


def _step_mistakes(axis: Axis, step: Any) -> list[str]:
    if isinstance(step, bool) or not isinstance(step, int | float) or not 0 < step < math.inf:
        return [f"step takes a number above 0; found {describe(step)}"]
    if axis.kind == "int" and step != int(step):
        return [f"step takes a whole number; found {describe(step)}"]
    return []


def _fits(axis: Axis) -> str:
    if axis.kind == "bool":
        return "Available: true, false."
    if axis.values:
        return f"Available: {', '.join(map(str, axis.values))}."
    return f"It takes numbers{f' {axis.bounds[0]:g} .. {axis.bounds[1]:g}' if axis.bounds else ''}."


def _combination_mistakes(raw: Mapping[str, Any], named: Sequence[str], place: str, catalog: Catalog) -> list[Mistake]:
    """Precisions without kernels on the provider; ``named`` axes that no combination of ``raw`` reaches or builds."""
    refused = [
        (f"{place}.precision", reason)
        for provider in (_values(raw, "provider", catalog) if "provider" in catalog.axes else ())
        for precision in _values(raw, "precision", catalog)
        if (reason := float_refusal(str(provider), str(precision))) is not None
    ]
    if refused:
        return refused
    reached = parse_space(raw, catalog).reached()
    unreached = [
        (f"{place}.{name}", f"has no effect: {_why_unreached(raw, name, catalog)}")
        for name in named
        if name not in reached
    ]
    return unreached + _embedding_mistakes(raw, named, place, catalog, reached)


def _embedding_mistakes(
    raw: Mapping[str, Any], named: Sequence[str], place: str, catalog: Catalog, reached: Collection[str]
) -> list[Mistake]:
    """An embedding that would be read out of a head without codes, at the first of the two axes that is named."""
    axes = ("embedding", "lm_head")
    if any(name not in reached for name in axes):
        return []
    why = head_refusal(*(_values(raw, name, catalog) for name in axes))
    return [] if why is None else [(f"{place}.{next((a for a in axes if a in named), axes[0])}", why)]


def _why_unreached(raw: Mapping[str, Any], name: str, catalog: Catalog) -> str:
    """The axes that decide whether ``name`` exists, with what the YAML gives them."""
    deciding = [n for n in parse_space(raw, catalog).deciding(name) if n != name]
    values = ", ".join(f"{n} is {' or '.join(map(_plain, _values(raw, n, catalog)))}" for n in deciding)
    return f"no combination uses it while {values}"


def _values(raw: Mapping[str, Any], name: str, catalog: Catalog) -> list[Any]:
    values = raw.get(name, catalog.axes[name].default)
    return values if isinstance(values, list) else [values]


def _spelled(value: object) -> str:
    return f"'{value}'" if isinstance(value, str) else _plain(value)


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number_hint(value: object) -> str:
    """The way to write a number that YAML takes for a text; empty for anything else."""
    if not isinstance(value, str):
        return ""
    if value.strip().lstrip("+-").replace(".", "", 1).isdigit():
        return ": leave the quotes out"
    return f": write it as {float(value):g}" if EXPONENT.fullmatch(value.strip()) else ""
