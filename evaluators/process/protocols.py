"""What tasks need of a model's process; a file that needs no lm-eval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from olivine.evaluators.process.messages import Endings


class GeneratingProcess(Protocol):
    """What tasks need of a process; :class:`olivine.evaluators.process.client.ModelProcess` is one."""

    def endings(self, tokens: Sequence[int], endings: Sequence[Sequence[int]]) -> Endings:
        """How likely endings of a prompt are."""
        ...

    def write(
        self, tokens: Sequence[int], max_new_tokens: int, enough: Callable[[list[int]], bool], steps: int = 16
    ) -> list[int]:
        """A greedy continuation."""
        ...
