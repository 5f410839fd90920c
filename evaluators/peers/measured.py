"""Measurements of a row as they are kept between runs: what the page is written from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from olivine.evaluators.peers import quality, timing
from olivine.evaluators.stats import Interval
from olivine.passes.store.atomic_files import write_atomic

#: In a folder of a comparison.
FILE = "measured.json"


@dataclass(frozen=True)
class Measured:
    """A row with its measurements.

    Attributes:
        engine: that deploys it.
        name: of the format.
        bytes: of all that is deployed.
        content: hash of what is loaded.
        timed: False of a float model that only proves that an engine has the same weights.
        windows: key of the windows that were scored.
        sums: kind of text -> sums over each window.
        prefill: round -> tokens per second.
        decode: round -> tokens per second.
    """

    engine: str
    name: str
    bytes: int
    content: str
    timed: bool
    windows: str
    sums: dict[str, list[dict[str, Any]]]
    prefill: dict[int, float] = field(default_factory=dict)
    decode: dict[int, float] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Engine and format."""
        return f"{self.engine} {self.name}"

    def divergence(self, kind: str) -> Interval:
        """KL divergence from the float model on a kind of text, in nats a token."""
        return quality.divergence(self.sums[kind])

    def ratio(self, kind: str) -> Interval:
        """Perplexity over the float model's."""
        return quality.ratio(self.sums[kind])

    def rate(self, what: str) -> float:
        """Median of ``prefill`` or ``decode`` over rounds, in tokens per second; NaN where it was not timed."""
        rates = getattr(self, what)
        return median(rates.values()) if rates else float("nan")


def load(path: Path) -> dict[str, Measured]:
    """Title -> row, as :func:`save` wrote them."""
    return {m["engine"] + " " + m["name"]: Measured(**m) for m in json.loads(path.read_text())} if path.exists() else {}


def save(path: Path, rows: dict[str, Measured]) -> None:
    """Keep rows without their rates, which lie in the file of the visits."""
    write_atomic(path, json.dumps([asdict(row) | {"prefill": {}, "decode": {}} for row in rows.values()]))


def with_rates(rows: dict[str, Measured], path: Path) -> list[Measured]:
    """The rows with their rates from the file of the visits; visits of other contents are left out."""
    for visit in timing.visits(path):
        row = rows.get(visit.title)
        rates = visit.rates(timing.PROMPT_TOKENS)
        if row is not None and row.content == visit.content and rates is not None:
            row.prefill[visit.round], row.decode[visit.round] = rates
    return list(rows.values())
