"""The base's own times, gathered over a whole study."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from olivine.passes.store.atomic_files import write_atomic


@dataclass
class BaselineTimes:
    """Times of the base from every trial, so that milliseconds of trials an hour apart compare.

    Each evaluation adds one pair (the medians of its rounds), so a long evaluation weighs no more than a
    short one. While a search runs, the pooled times must not move: trials are ordered by them, so only the first
    evaluations count.

    Attributes:
        path: JSON file that keeps the times between processes; None keeps them in memory alone.
        first: number of first evaluations that count; None for all.
    """

    path: Path | None = None
    first: int | None = None
    _ttft_ms: list[float] = field(default_factory=list)
    _tpot_ms: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.path is not None and self.path.exists():
            stored = json.loads(self.path.read_text())
            self._ttft_ms, self._tpot_ms = stored["ttft_ms"], stored["tpot_ms"]

    @classmethod
    def fixed(cls, ttft_ms: float, tpot_ms: float) -> BaselineTimes:
        """Times that were measured elsewhere, on the same hardware, and stay."""
        return cls(None, 1, [ttft_ms], [tpot_ms])

    def add(self, ttft_ms: Sequence[float], tpot_ms: Sequence[float]) -> None:
        """Add the rounds of one evaluation."""
        self._ttft_ms.append(median(ttft_ms))
        self._tpot_ms.append(median(tpot_ms))
        if self.path is not None:
            write_atomic(self.path, json.dumps({"ttft_ms": self._ttft_ms, "tpot_ms": self._tpot_ms}))

    def snapshot(self) -> BaselineTimes:
        """A copy in memory whose times rest on all evaluations so far, and stay."""
        return BaselineTimes(None, len(self), list(self._ttft_ms), list(self._tpot_ms))

    def __len__(self) -> int:
        return len(self._ttft_ms)

    @property
    def ttft_ms(self) -> float:
        """The base's pooled time to first token."""
        return median(self._ttft_ms[: self.first])

    @property
    def tpot_ms(self) -> float:
        """The base's pooled time per output token."""
        return median(self._tpot_ms[: self.first])
