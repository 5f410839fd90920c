"""The search space: what a YAML says about each axis, and how a trial's choice is drawn from it.

Only what the YAML names is searched. An axis that does not apply to the values before it does not exist for that
trial: it is not suggested, so Optuna's conditional (define-by-run) space stays honest.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from olivine.passes.base import Axis, Scalar
from olivine.passes.catalog import AXES
from olivine.passes.errors import did_you_mean
from olivine.passes.export import float_refusal
from olivine.passes.recipe import canonical


@dataclass(frozen=True)
class Domain:
    """What one axis may be.

    Attributes:
        axis: the axis.
        values: the values, in the YAML's order; empty for a continuous range.
        low: lower bound of a range.
        high: upper bound of a range.
        step: step of a range; None for a continuous one.
    """

    axis: Axis
    values: tuple[Scalar, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float | None = None

    @property
    def searched(self) -> bool:
        """Whether there is a choice."""
        return len(self.values) != 1

    def __str__(self) -> str:
        if self.values:
            return ", ".join(str(value) for value in self.values)
        return f"{self.low:g} .. {self.high:g}" + (f" step {self.step:g}" if self.step else "")


class Suggester(Protocol):
    """The part of ``optuna.Trial`` that drawing a choice needs."""

    def suggest_categorical(self, name: str, choices: tuple[Scalar, ...]) -> Any:
        """One of the choices."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int:
        """A whole number."""

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None) -> float:
        """A number."""


@dataclass(frozen=True)
class Space:
    """The domains of the axes that a YAML names, in the order in which they are chosen."""

    domains: tuple[Domain, ...]

    @property
    def searched(self) -> tuple[str, ...]:
        """Names of the axes with a choice."""
        return tuple(domain.axis.name for domain in self.domains if domain.searched)

    def suggest(self, trial: Suggester) -> dict[str, Scalar]:
        """Draw one choice: the canonical values of the axes that apply."""
        choice: dict[str, Scalar] = {}
        for domain in self.domains:
            if not domain.axis.applies(canonical(choice)):
                continue
            choice[domain.axis.name] = _suggest(domain, trial)
        return canonical(choice)

    def enumerate(self) -> Iterator[dict[str, Scalar]] | None:
        """Every distinct canonical choice, or None where a continuous range makes them endless."""
        if any(not domain.values for domain in self.domains):
            return None
        return self._distinct()

    def _distinct(self) -> Iterator[dict[str, Scalar]]:
        seen = set()
        names = [domain.axis.name for domain in self.domains]
        for values in itertools.product(*(domain.values for domain in self.domains)):
            choice = canonical(dict(zip(names, values, strict=True)))
            if (identity := tuple(sorted(choice.items()))) not in seen:
                seen.add(identity)
                yield choice

    def contains(self, choice: Mapping[str, Scalar]) -> bool:
        """Whether every value of a canonical choice is one that this space could have drawn."""
        domains = {domain.axis.name: domain for domain in self.domains}
        return all(
            _within(domains[name], value) if name in domains else value == AXES[name].default
            for name, value in choice.items()
        )


def _suggest(domain: Domain, trial: Suggester) -> Scalar:
    name = domain.axis.name
    if len(domain.values) == 1:
        return domain.values[0]
    if domain.step is not None and domain.axis.kind == "int":
        return trial.suggest_int(name, int(domain.low), int(domain.high), step=int(domain.step))
    if domain.values and domain.step is None:
        value: Scalar = trial.suggest_categorical(name, domain.values)
        return value
    return trial.suggest_float(name, domain.low, domain.high, step=domain.step)


def _within(domain: Domain, value: Scalar) -> bool:
    return value in domain.values or (not domain.values and domain.low <= float(value) <= domain.high)


def parse_space(raw: Mapping[str, Any]) -> Space:
    """The search space that a checked YAML section describes."""
    return Space(tuple(_domain(axis, raw[axis.name]) for axis in AXES.values() if axis.name in raw))


def _domain(axis: Axis, given: Any) -> Domain:
    if isinstance(given, dict):
        low, high, step = float(given["low"]), float(given["high"]), given.get("step")
        if step is None and axis.kind == "int":
            step = 1
        if step is None:
            return Domain(axis, (), low, high)
        count = int((high - low) / step + 1e-9) + 1
        numbers = [low + index * step for index in range(count)]
        values = tuple(int(n) if axis.kind == "int" else round(n, 12) for n in numbers)
        return Domain(axis, values, low, float(values[-1]), float(step))
    return Domain(axis, tuple(given) if isinstance(given, list) else (given,))


def choice_mistakes(raw: Mapping[Any, Any], place: str, fixed: bool = False) -> list[tuple[str, str]]:
    """Every mistake in a ``space:`` section, or in one ``enqueue:`` choice where values are ``fixed``."""
    found: list[tuple[str, str]] = []
    if not raw and not fixed:
        return [(place, f"names no axis. Available: {', '.join(AXES)}.")]
    for name, given in raw.items():
        axis = AXES.get(str(name))
        if axis is None:
            found.append((f"{place}.{name}", f"unknown axis '{name}'. {did_you_mean(str(name), AXES)}"))
        else:
            found += [(f"{place}.{name}", message) for message in _axis_mistakes(axis, given, fixed)]
    if not found:
        found += _combination_mistakes(raw, place)
    return found


def _axis_mistakes(axis: Axis, given: Any, fixed: bool) -> list[str]:
    if isinstance(given, dict):
        return ["takes one value here"] if fixed else _range_mistakes(axis, given)
    if isinstance(given, list):
        if fixed:
            return ["takes one value here"]
        if not given:
            return [f"is an empty list. {_fits(axis)}"]
        twice = [str(value) for index, value in enumerate(given) if value in given[:index]]
        return [m for value in given for m in _value_mistakes(axis, value)] + [f"names {v} twice" for v in twice]
    return _value_mistakes(axis, given)


def _value_mistakes(axis: Axis, value: Any) -> list[str]:
    if axis.kind == "bool":
        return [] if isinstance(value, bool) else [f"takes true or false; found {value!r}"]
    if axis.kind == "choice":
        if any(value == known and isinstance(value, bool) == isinstance(known, bool) for known in axis.values):
            return []
        return [f"unknown value '{value}'. {did_you_mean(str(value), map(str, axis.values))}"]
    low, high = axis.bounds or (float("-inf"), float("inf"))
    if isinstance(value, bool) or not isinstance(value, int | float) or (axis.kind == "int" and value != int(value)):
        return [f"takes {'a whole number' if axis.kind == 'int' else 'a number'}; found {value!r}"]
    return [] if low <= value <= high else [f"{value} is outside {low:g} .. {high:g}"]


def _range_mistakes(axis: Axis, given: Mapping[Any, Any]) -> list[str]:
    if axis.kind not in ("int", "float"):
        return [f"is no number, so it takes no range. {_fits(axis)}"]
    keys = ("low", "high", "step")
    found = [f"unknown key '{key}' in a range. {did_you_mean(str(key), keys)}" for key in given if key not in keys]
    found += [f"a range needs '{key}'" for key in ("low", "high") if key not in given]
    found += [m for key in ("low", "high") if key in given for m in _value_mistakes(axis, given[key])]
    step = given.get("step", 1)
    if isinstance(step, bool) or not isinstance(step, int | float) or step <= 0:
        found.append(f"a range's step is a number above 0; found {step!r}")
    if not found and given["low"] > given["high"]:
        found.append(f"low {given['low']} is above high {given['high']}")
    return found


def _fits(axis: Axis) -> str:
    if axis.kind == "bool":
        return "Available: true, false."
    return f"Available: {', '.join(map(str, axis.values))}." if axis.values else "It takes numbers."


def _combination_mistakes(raw: Mapping[str, Any], place: str) -> list[tuple[str, str]]:
    """Precisions that a named provider has no kernels for; axes that no combination reaches."""
    found = []
    for provider in _values(raw, "provider"):
        for precision in _values(raw, "precision"):
            if reason := float_refusal(str(provider), str(precision)):
                found.append((f"{place}.precision", reason))
    if not found:
        space = parse_space(raw)
        finite = [d if d.values else Domain(d.axis, (d.low,)) for d in space.domains]
        reached = {name for choice in Space(tuple(finite))._distinct() for name in choice}
        found += [
            (f"{place}.{name}", "has no effect: no combination of the other axes uses it")
            for name in raw
            if name not in reached
        ]
    return found


def _values(raw: Mapping[str, Any], name: str) -> list[Any]:
    given = raw.get(name, AXES[name].default)
    return given if isinstance(given, list) else [given]
