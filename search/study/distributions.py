"""The Optuna distributions that a choice was drawn from, so that its trial can be created in one write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from olivine.passes.base import Scalar
from olivine.search.config.space import Space


def distributions_of(space: Space, params: Mapping[str, Scalar]) -> dict[str, BaseDistribution]:
    """Axis -> distribution, for the searched axes among ``params``, as ``Trial.suggest_*`` would have made them."""
    replay = _Replay(params)
    if params:
        space.suggest(replay)
    return replay.found


class _Replay:
    """Answers every suggestion with what was chosen, and notes what it was chosen from."""

    def __init__(self, params: Mapping[str, Scalar]) -> None:
        self._params = params
        self.found: dict[str, BaseDistribution] = {}

    def suggest_categorical(self, name: str, choices: tuple[Scalar, ...]) -> Any:
        """What was chosen."""
        self.found[name] = CategoricalDistribution(choices)
        return self._params[name]

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int:
        """What was chosen."""
        self.found[name] = IntDistribution(low, high, step=step)
        return int(self._params[name])

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None) -> float:
        """What was chosen."""
        self.found[name] = FloatDistribution(low, high, step=step)
        return float(self._params[name])
