"""Recipe: the canonical, hashable choice of passes and parameters of one candidate.

Two recipes that build the same bytes are one recipe: axes that do not apply are dropped before anything is
hashed, and a pass that would change nothing is not a step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from olivine.passes.base import CheckpointPass, ExportPass, GraphFilePass, Pass
from olivine.passes.errors import UsageError, did_you_mean
from olivine.passes.kernel import Kernel
from olivine.passes.store.digests import digest


@dataclass(frozen=True)
class Step:
    """One pass and its parameters, as canonical JSON so that it can be hashed."""

    name: str
    params_json: str

    @classmethod
    def of(cls, name: str, params: Mapping[str, Any]) -> Step:
        """The step of a pass with these parameters."""
        return cls(name, json.dumps(params, sort_keys=True, separators=(",", ":")))

    @property
    def params(self) -> dict[str, Any]:
        """The parameters as plain values."""
        params: dict[str, Any] = json.loads(self.params_json)
        return params


def _frozen(value: Any) -> Any:
    """JSON lists back to tuples, so that pass parameters stay hashable."""
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value


@dataclass(frozen=True)
class Recipe:
    """The steps that turn a source into a candidate. :class:`olivine.passes.catalog.Catalog` makes recipes.

    Attributes:
        steps: in pipeline order.
        known: the passes that steps name.
    """

    steps: tuple[Step, ...]
    known: tuple[type[Pass], ...] = field(repr=False)

    def to_json(self) -> list[dict[str, Any]]:
        """JSON form for records, requests and manifests; :meth:`olivine.passes.catalog.Catalog.recipe` reads it."""
        return [{"name": step.name, "params": step.params} for step in self.steps]

    @cached_property
    def key(self) -> str:
        """Identity of the recipe: equal keys build equal bytes from the same source, samples and versions."""
        graph = all(issubclass(cls, GraphFilePass) for cls in self.known)
        # Both forms stand in records and caches of version 0.1.0.
        return digest(self.to_json() if graph else [[s.name, s.params] for s in self.steps], length=12)

    def passes(self) -> list[Pass]:
        """The passes, ready to run.

        Raises:
            UsageError: when no pass has the name of a step (a recipe from another version).
        """
        return [self._build(step) for step in self.steps]

    def _build(self, step: Step) -> Pass:
        by_name = {cls.name: cls for cls in self.known}
        if step.name not in by_name:
            raise UsageError(f"Unknown pass '{step.name}'. {did_you_mean(step.name, by_name)}")
        return by_name[step.name](**{name: _frozen(value) for name, value in step.params.items()})

    @property
    def needs_calibration(self) -> bool:
        """True when a pass of it learns from calibration text or samples."""
        return any(p.needs_calibration for p in self.passes())

    @property
    def provider(self) -> str:
        """The execution provider that it is built for."""
        return next((str(s.params["provider"]) for s in self.steps if "provider" in s.params), "cpu")

    @property
    def threads(self) -> int | None:
        """Intra-op threads that its session options ask for; None where they ask for none."""
        return next((int(s.params["threads"]) or None for s in self.steps if "threads" in s.params), None)

    @property
    def kernels(self) -> frozenset[Kernel]:
        """The kernels that its quantized linear layers may need."""
        return frozenset[Kernel]().union(*(p.kernels for p in self.passes()))

    def float_part(self) -> Recipe:
        """The steps up to the float graph, which the graph passes start from."""
        before = (CheckpointPass, ExportPass)
        return replace(self, steps=tuple(step for step in self.steps if isinstance(self._build(step), before)))
