"""What is wrong with a ``space:`` section or an ``enqueue:`` choice, as (place, message) pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from olivine.passes.base import Axis
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import did_you_mean
from olivine.passes.export.export import float_refusal
from olivine.search.config.quantities import describe
from olivine.search.config.space import parse_space

Mistake = tuple[str, str]
#: A range is refused beyond this many values: a larger step says the same.
MAX_RANGE = 10_000
_RANGE_KEYS = ("low", "high", "step")


def space_mistakes(raw: Mapping[Any, Any], axes: Mapping[str, Axis] = LANGUAGE.axes) -> list[Mistake]:
    """Every mistake in a ``space:`` section of these axes."""
    if not raw:
        return [("space", no_axis(axes))]
    return _axes_mistakes(raw, "space", False, axes) or _combination_mistakes(raw, list(raw), "space", axes)


def choice_mistakes(
    raw: Mapping[Any, Any], place: str, space: Mapping[Any, Any], axes: Mapping[str, Axis] = LANGUAGE.axes
) -> list[Mistake]:
    """Every mistake in one choice of axis values; ``space``, where it is sound, gives the axes not named."""
    found = _axes_mistakes(raw, place, True, axes)
    if found or _axes_mistakes(space, "space", False, axes):
        return found
    return _combination_mistakes({**parse_space(space, axes).usual(), **raw}, list(raw), place, axes)


def differing_from_base(
    raw: Mapping[Any, Any], place: str, space: Mapping[Any, Any], axes: Mapping[str, Axis] = LANGUAGE.axes
) -> list[Mistake]:
    """Values of one choice that the study's base, which ``space`` describes, would not have."""
    if _axes_mistakes(space, "space", False, axes):
        return []
    usual = parse_space(space, axes).usual()
    return [
        (f"{place}.{name}", f"is not the study's: the float base has it too. Write space.{name}: {_spelled(value)}.")
        for name, value in raw.items()
        if (axis := axes.get(str(name))) is not None and axis.shared and value != usual.get(axis.name, axis.default)
    ]


def no_axis(axes: Mapping[str, Axis] = LANGUAGE.axes) -> str:
    """What to say where no axis is named."""
    return f"names no axis. Available: {', '.join(axes)}."


def _axes_mistakes(
    raw: Mapping[Any, Any], place: str, fixed: bool, axes: Mapping[str, Axis] = LANGUAGE.axes
) -> list[Mistake]:
    found: list[Mistake] = []
    for name, given in raw.items():
        axis = axes.get(str(name))
        if axis is None:
            found.append((f"{place}.{name}", f"unknown axis. {did_you_mean(name, axes)}"))
        else:
            found += [(f"{place}.{name}", message) for message in _axis_mistakes(axis, given, fixed)]
    return found


def _axis_mistakes(axis: Axis, given: Any, fixed: bool) -> list[str]:
    if fixed and isinstance(given, dict | list):
        return [f"takes one value here; found {describe(given)}"]
    if isinstance(given, dict):
        return _range_mistakes(axis, given)
    if isinstance(given, list):
        if not given:
            return [f"is an empty list. {_fits(axis)}"]
        twice = [value for index, value in enumerate(given) if value in given[:index]]
        found = [message for value in given for message in _value_mistakes(axis, value)]
        if axis.shared and len(given) > 1 and not found and not twice:
            word = _spelled(given[0])
            return [f"takes one value in a study, because the float base takes it over. Write {axis.name}: {word}."]
        return found + [f"names {_spelled(value)} twice" for value in twice]
    return _value_mistakes(axis, given)


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
        hint = ": leave the quotes out" if isinstance(value, str) and _is_number(value) else ""
        return [f"takes {'whole numbers' if whole else 'numbers'}; found {describe(value)}{hint}"]
    low, high = axis.bounds or (-math.inf, math.inf)
    return [] if low <= value <= high else [f"{value:g} is outside {low:g} .. {high:g}"]


def _choice_mistakes(axis: Axis, value: Any) -> list[str]:
    if any(value == known and isinstance(value, bool) == isinstance(known, bool) for known in axis.values):
        return []
    if isinstance(value, str) and any(value == str(known) for known in axis.values):
        return [f"takes the number {value}; found the text '{value}': leave the quotes out"]
    if isinstance(value, bool):
        said = f"{describe(value)} (YAML reads yes, no, on and off so; quotes keep the word)"
        return [f"unknown value {said}. {_fits(axis)}"]
    return [f"unknown value {_spelled(value)}. {did_you_mean(value, axis.values)}"]


def _range_mistakes(axis: Axis, given: Mapping[Any, Any]) -> list[str]:
    if axis.kind not in ("int", "float"):
        return [f"takes no range, its values are no numbers. {_fits(axis)}"]
    found = [
        f"unknown key '{key}' in a range. {did_you_mean(key, _RANGE_KEYS)}" for key in given if key not in _RANGE_KEYS
    ]
    found += [f"a range needs '{key}'" for key in ("low", "high") if key not in given]
    for key in ("low", "high"):
        found += [f"{key} {message}" for message in (_value_mistakes(axis, given[key]) if key in given else [])]
    step = given.get("step", 1)
    if isinstance(step, bool) or not isinstance(step, int | float) or not 0 < step < math.inf:
        found.append(f"step takes a number above 0; found {describe(step)}")
    elif axis.kind == "int" and step != int(step):
        found.append(f"step takes a whole number; found {describe(step)}")
    if found:
        return found
    if given["low"] > given["high"]:
        return [f"low {given['low']} is above high {given['high']}"]
    if ("step" in given or axis.kind == "int") and (given["high"] - given["low"]) / step >= MAX_RANGE:
        return [f"has more than {MAX_RANGE} values: take a larger step"]
    return []


def _fits(axis: Axis) -> str:
    if axis.kind == "bool":
        return "Available: true, false."
    if axis.values:
        return f"Available: {', '.join(map(str, axis.values))}."
    return f"It takes numbers{f' {axis.bounds[0]:g} .. {axis.bounds[1]:g}' if axis.bounds else ''}."


def _combination_mistakes(
    raw: Mapping[str, Any], named: Sequence[str], place: str, axes: Mapping[str, Axis] = LANGUAGE.axes
) -> list[Mistake]:
    """Precisions without kernels on the provider; ``named`` axes that no combination of ``raw`` reaches."""
    found = [
        (f"{place}.precision", reason)
        for provider in (_values(raw, "provider", axes) if "provider" in axes else ())
        for precision in _values(raw, "precision", axes)
        if (reason := float_refusal(str(provider), str(precision))) is not None
    ]
    if found:
        return found
    reached = parse_space(raw, axes).reached()
    return [
        (f"{place}.{name}", f"has no effect: {_why_unreached(raw, name, axes)}")
        for name in named
        if name not in reached
    ]


def _why_unreached(raw: Mapping[str, Any], name: str, axes: Mapping[str, Axis]) -> str:
    """The axes that decide whether ``name`` exists, with what the YAML gives them."""
    deciding = [n for n in parse_space(raw, axes).deciding(name) if n != name]
    given = ", ".join(f"{n} is {' or '.join(map(_plain, _values(raw, n, axes)))}" for n in deciding)
    return f"no combination uses it while {given}"


def _values(raw: Mapping[str, Any], name: str, axes: Mapping[str, Axis]) -> list[Any]:
    given = raw.get(name, axes[name].default)
    return given if isinstance(given, list) else [given]


def _spelled(value: object) -> str:
    return f"'{value}'" if isinstance(value, str) else _plain(value)


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_number(text: str) -> bool:
    return text.strip().lstrip("+-").replace(".", "", 1).isdigit()
