"""The search space: the values that a YAML gives each axis, and the draw of a trial's choice from them.

Only what the YAML names is searched. An axis that does not apply to the values before it does not exist for
that trial: it is not suggested, so Optuna's conditional (define-by-run) space stays honest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from olivine.passes.base import Axis, Scalar
from olivine.passes.catalog import Catalog


@dataclass(frozen=True)
class Domain:
    """The values that one axis may have.

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
        """True where there is a choice."""
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
    """The domains of the axes that a YAML names, in the order in which they are chosen.

    Attributes:
        domains: one an axis that is named.
        catalog: all axes that there are, and the recipes that their values make.
    """

    domains: tuple[Domain, ...]
    catalog: Catalog = field(compare=False, repr=False)

    @property
    def searched(self) -> tuple[str, ...]:
        """Names of the axes with a choice."""
        return tuple(domain.axis.name for domain in self.domains if domain.searched)

    def suggest(self, trial: Suggester) -> dict[str, Scalar]:
        """Draw one choice: the canonical values of the axes that apply."""
        domains = {domain.axis.name: domain for domain in self.domains}
        choice: dict[str, Scalar] = {}
        for name, axis in self.catalog.axes.items():
            if axis.applies(choice):
                value = _suggest(domains[name], trial) if name in domains else axis.default_for(choice)
                if axis.named(value, choice):
                    choice[name] = value
        return choice

    def enumerate(self) -> Iterator[dict[str, Scalar]] | None:
        """Every distinct canonical choice, or None where a continuous range makes them endless."""
        if any(not domain.values for domain in self.domains):
            return None
        options = {domain.axis.name: domain.values for domain in self.domains}
        return map(self.catalog.canonical, _choices({}, list(self.catalog.axes.values()), options, {}))

    def usual(self) -> dict[str, Scalar]:
        """The value that ``enqueue:`` takes of an axis it does not name: a new study's default, or else the first."""
        usual: dict[str, Scalar] = {}
        for domain in self.domains:
            axis = domain.axis
            default = axis.default if axis.newer_default is None else axis.newer_default
            if domain.values:
                usual[axis.name] = default if default in domain.values else domain.values[0]
        return usual

    def reached(self) -> frozenset[str]:
        """Names of the axes that at least one choice of this space has."""
        return self._survey()[0]

    def deciding(self, name: str) -> tuple[str, ...]:
        """Names of the axes that decide whether the axis ``name`` exists, in the order of the axes."""
        reads = self._survey()[1]
        return tuple(axis for axis in self.catalog.axes if axis in reads.get(name, set()))

    def _survey(self) -> tuple[frozenset[str], dict[str, set[str]]]:
        """Axes that exist in some choice; and which axes each axis's existence was seen to depend on.

        The full product may have millions of choices, but few axes decide about others. Those are found by
        watching what ``applies`` reads: first with one value an axis, then with all values of the axes that
        were read, until no new ones are.
        """
        widened: set[str] = set()
        while True:
            options = {
                domain.axis.name: (domain.values or (domain.low,))[: None if domain.axis.name in widened else 1]
                for domain in self.domains
            }
            reads: dict[str, set[str]] = {}
            choices = _choices({}, list(self.catalog.axes.values()), options, reads)
            reached = frozenset(name for choice in choices for name in choice)
            read = set().union(*reads.values())
            if read <= widened:
                return reached, reads
            widened |= read

    def contains(self, choice: Mapping[str, Scalar]) -> bool:
        """True where this space could have drawn every value of a canonical choice."""
        domains = {domain.axis.name: domain for domain in self.domains}
        unnamed = {
            name: domain.axis.default_for(choice)
            for name, domain in domains.items()
            if domain.axis.later and domain.axis.applies(choice)
        }
        return all(
            _within(domains[name], value) if name in domains else value == self.catalog.axes[name].default_for(choice)
            for name, value in {**unnamed, **choice}.items()
        )


class _Watched(Mapping[str, Scalar]):
    """A choice that notes which axes are looked at."""

    def __init__(self, choice: Mapping[str, Scalar], seen: set[str]) -> None:
        self._choice, self._seen = choice, seen

    def __getitem__(self, name: str) -> Scalar:
        self._seen.add(name)
        return self._choice[name]

    def __iter__(self) -> Iterator[str]:
        self._seen.update(self._choice)
        return iter(self._choice)

    def __len__(self) -> int:
        return len(self._choice)


def _choices(
    prefix: dict[str, Scalar],
    axes: Sequence[Axis],
    options: Mapping[str, tuple[Scalar, ...]],
    reads: dict[str, set[str]],
) -> Iterator[dict[str, Scalar]]:
    """Every way to go on from ``prefix`` through ``axes``; notes in ``reads`` what each axis depends on."""
    if not axes:
        yield prefix
        return
    axis, rest = axes[0], axes[1:]
    applies = axis.applies(_Watched(prefix, reads.setdefault(axis.name, set())))
    if not applies or (axis.later and axis.name not in options):
        yield from _choices(prefix, rest, options, reads)
        return
    for value in options.get(axis.name, (axis.default_for(prefix),)):
        yield from _choices({**prefix, axis.name: value}, rest, options, reads)


def _suggest(domain: Domain, trial: Suggester) -> Scalar:
    name = domain.axis.name
    if len(domain.values) == 1:
        return domain.values[0]
    if domain.step is not None and domain.axis.kind == "int":
        return trial.suggest_int(name, int(domain.low), int(domain.high), step=int(domain.step))
    if domain.values and domain.step is None:
        value: Scalar = trial.suggest_categorical(name, domain.values)
        return value
    # Rounded as in the enumeration: 0.1 + 2 * 0.1 and 0.3 are one candidate.
    return round(trial.suggest_float(name, domain.low, domain.high, step=domain.step), 12)


def _within(domain: Domain, value: Scalar) -> bool:
    return value in domain.values or (not domain.values and domain.low <= float(value) <= domain.high)


def parse_space(raw: Mapping[str, Any], catalog: Catalog) -> Space:
    """The search space that a checked YAML section describes."""
    domains = (_domain(axis, raw[name]) for name, axis in catalog.axes.items() if name in raw)
    return Space(tuple(domains), catalog)


def _domain(axis: Axis, values: Any) -> Domain:
    if isinstance(values, dict):
        low, high, step = float(values["low"]), float(values["high"]), values.get("step")
        if step is None and axis.kind == "int":
            step = 1
        if step is None:
            return Domain(axis, (), low, high)
        count = int((high - low) / step + 1e-9) + 1
        numbers = [low + index * step for index in range(count)]
        listed = tuple(int(n) if axis.kind == "int" else round(n, 12) for n in numbers)
        return Domain(axis, listed, low, float(listed[-1]), float(step))
    return Domain(axis, tuple(_known(axis, value) for value in (values if isinstance(values, list) else [values])))


def _known(axis: Axis, value: Scalar) -> Scalar:
    """The axis's own spelling of a value: YAML's 32.0 is 32."""
    if axis.kind == "int":
        return int(value)
    return next((known for known in axis.values if known == value), value)
