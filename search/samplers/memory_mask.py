"""MemoryMask: recipes whose resident peak, as they are deployed, is predicted far above a limit are not built.

A prediction is right within 10 %, so a recipe is left out where it is above the limit by more than that. What is built
is measured, and the constraint decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from olivine.passes.errors import UsageError
from olivine.passes.recipe import Recipe
from olivine.search.config.constraints import Constraint
from olivine.search.config.space import Space
from olivine.search.report.formatting import value_text
from olivine.search.samplers.deployed_memory import DeployedMemory
from olivine.search.samplers.random_choices import sample_choices

#: The metric that is predicted.
METRIC = "deployed_rss_bytes"
#: Error of a prediction, above which a recipe can't fit.
MARGIN = 0.1


@dataclass(frozen=True)
class MemoryMask:
    """The recipes that can't fit.

    Attributes:
        limit_bytes: of the resident peak.
        memory: predicts it.
    """

    limit_bytes: float
    memory: DeployedMemory

    def reason(self, recipe: Recipe) -> str | None:
        """Why a recipe is not proposed; None where it may fit."""
        predicted = self.memory.predict(recipe)
        if predicted <= (1 + MARGIN) * self.limit_bytes:
            return None
        return f"{METRIC} is predicted at {value_text(METRIC, predicted)}, which can't fit {self._limit}"

    @property
    def _limit(self) -> str:
        return value_text(METRIC, self.limit_bytes)

    def check(self, space: Space) -> None:
        """Refuse a space none of whose recipes can fit.

        Raises:
            UsageError: with the smallest recipe, and what it is predicted to take.
        """
        searched = [domain.axis.name for domain in space.domains if domain.searched]
        predicted = {
            self.memory.predict(recipe): choice
            for choice in sample_choices(space)
            if (recipe := space.catalog.compose(choice)).provider == "cpu"
        }
        if not predicted or min(predicted) <= (1 + MARGIN) * self.limit_bytes:
            return
        smallest = predicted[min(predicted)]
        words = ", ".join(f"{name} {smallest[name]}" for name in searched if name in smallest)
        raise UsageError(
            f"{METRIC} <= {self._limit}: no recipe of the space can fit. The smallest"
            f"{words and f', {words},'} is predicted at {value_text(METRIC, min(predicted))}: "
            f"{value_text(METRIC, self.memory.context_bytes(space.catalog.compose(smallest)))} of it are the cache of "
            f"{self.memory.context} tokens. Raise the limit, shorten the scenario's context, or let the space have "
            "fewer bits, kv_cache: int8 or a chunk_size"
        )

    @property
    def line(self) -> str:
        """The rule in words."""
        return (
            f"recipes whose {METRIC} is predicted above {self._limit} by more than {MARGIN:.0%}, from "
            f"their weights, the cache of {self.memory.context} tokens and the piece of a prompt that is read at once"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"limit_bytes": self.limit_bytes, "memory": self.memory.to_json(), "reason": self.line}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> MemoryMask:
        """The inverse of :meth:`to_json`."""
        return cls(float(content["limit_bytes"]), DeployedMemory.from_json(content["memory"]))


def memory_limit(constraints: Iterable[Constraint]) -> float | None:
    """The least of the limits on the resident peak; None where there is none."""
    limits = [each.bound for each in constraints if (each.metric, each.relation) == (METRIC, "<=")]
    return min(limits, default=None)
