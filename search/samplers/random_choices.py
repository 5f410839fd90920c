"""Random choices from a search space, for spaces with too many candidates to list."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

from olivine.passes.base import Scalar
from olivine.search.config.space import Domain, Space

#: Choices in a sample of the space.
SAMPLE = 2000


class RandomSuggester:
    """Suggests the wanted values where they are possible, and draws others, every value with the same chance."""

    def __init__(self, rng: random.Random, wanted: Mapping[str, Scalar]) -> None:
        self._rng, self._wanted = rng, wanted

    def suggest_categorical(self, name: str, choices: tuple[Scalar, ...]) -> Any:
        """One of the choices."""
        return self._wanted[name] if self._wanted.get(name) in choices else self._rng.choice(choices)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int:
        """A whole number."""
        return int(self._wanted.get(name, self._rng.randrange(low, high + 1, step)))

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None) -> float:
        """A number."""
        drawn = self._rng.uniform(low, high)
        if step is not None:
            drawn = low + step * self._rng.randrange(int((high - low) / step + 1e-9) + 1)
        return float(self._wanted.get(name, drawn))


def chance_choices(space: Space, count: int, seed: int) -> Iterator[dict[str, Scalar]]:
    """Draw choices from a space, every value with the same chance."""
    rng = random.Random(seed)
    for _ in range(count):
        yield space.suggest(RandomSuggester(rng, {}))


def sample_choices(space: Space, count: int = SAMPLE) -> list[dict[str, Scalar]]:
    """Draw a fair sample of the space, the same every time; of ranges only the ends: enough for what excludes what."""
    thin = tuple(Domain(d.axis, (d.low, d.high)) if d.step or not d.values else d for d in space.domains)
    return list(chance_choices(Space(thin, space.catalog), count, 0))
