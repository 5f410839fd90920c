"""Recipe: the canonical, hashable choice of passes and parameters of one candidate.

Two recipes that build the same bytes are one recipe: axes that do not apply are dropped before anything is
hashed, and a pass that would change nothing is not a step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from olivine.passes.artifact import digest
from olivine.passes.base import CheckpointPass, Choice, ExportPass, GraphPass, Pass, Scalar, filled
from olivine.passes.catalog import AXES, PASSES
from olivine.passes.errors import UsageError, did_you_mean
from olivine.passes.kernel import Kernel


@dataclass(frozen=True)
class Step:
    """One pass and its parameters, as canonical JSON so that it can be hashed."""

    name: str
    params_json: str

    @property
    def params(self) -> dict[str, Any]:
        """The parameters as plain values."""
        params: dict[str, Any] = json.loads(self.params_json)
        return params

    def build(self) -> Pass:
        """The pass itself.

        Raises:
            UsageError: when no pass has this name (a recipe from another version).
        """
        if self.name not in PASSES:
            raise UsageError(f"Unknown pass '{self.name}'. {did_you_mean(self.name, PASSES)}")
        return PASSES[self.name](**{k: _frozen(v) for k, v in self.params.items()})


def _frozen(value: Any) -> Any:
    """JSON lists back to tuples, so that pass parameters stay hashable."""
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value


@dataclass(frozen=True)
class Recipe:
    """The steps that turn a source into a candidate."""

    steps: tuple[Step, ...]

    @cached_property
    def key(self) -> str:
        """Identity of the recipe: equal keys build equal bytes from the same source and versions."""
        return digest([[s.name, s.params] for s in self.steps], length=12)

    def passes(self) -> list[Pass]:
        """The passes, ready to run."""
        return [step.build() for step in self.steps]

    @property
    def needs_calibration(self) -> bool:
        """Whether a pass of it learns from calibration text."""
        return any(isinstance(p, GraphPass) and p.needs_calibration for p in self.passes())

    @property
    def provider(self) -> str:
        """The execution provider that it is built for."""
        return next((str(s.params["provider"]) for s in self.steps if "provider" in s.params), "cpu")

    @property
    def kernels(self) -> frozenset[Kernel]:
        """The kernels that its quantized linear layers may need."""
        return frozenset[Kernel]().union(*(p.kernels for p in self.passes() if isinstance(p, GraphPass)))

    def float_part(self) -> Recipe:
        """The steps up to the float graph, which the graph passes start from."""
        before = (CheckpointPass, ExportPass)
        return Recipe(tuple(step for step in self.steps if isinstance(step.build(), before)))

    def to_json(self) -> list[dict[str, Any]]:
        """JSON form for records and manifests."""
        return [{"name": s.name, "params": s.params} for s in self.steps]

    @classmethod
    def from_json(cls, steps: list[dict[str, Any]]) -> Recipe:
        """The inverse of :meth:`to_json`."""
        return cls(tuple(_step(s["name"], s["params"]) for s in steps))


def _step(name: str, params: Mapping[str, Any]) -> Step:
    return Step(name, json.dumps(params, sort_keys=True, separators=(",", ":")))


def canonical(choice: Choice) -> dict[str, Scalar]:
    """Fill in defaults and drop every axis that does not exist for the values before it.

    Raises:
        UsageError: for an axis that no pass declares.
    """
    return filled(choice, AXES)


def compose(choice: Choice) -> Recipe:
    """The recipe that a choice of axis values stands for; axes it does not name take their defaults.

    Raises:
        UsageError: for an axis that no pass declares, or a value that its pass refuses.
    """
    return _composed(tuple((name, type(value), value) for name, value in choice.items()))


@lru_cache(maxsize=8192)  # a search asks for the same ones over and over
def _composed(items: tuple[tuple[str, type, Scalar], ...]) -> Recipe:
    """Types are part of the key: 1, 1.0 and True are equal."""
    full = canonical({name: value for name, _, value in items})
    steps = [built for cls in PASSES.values() if (built := cls.from_choice(full)) is not None]
    return Recipe(tuple(_step(p.name, p.params()) for p in steps))
