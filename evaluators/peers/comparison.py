"""Rows of one checkpoint beside each other: loss on the same windows, speed on the same prompts, in turns.

What was measured is kept with the hash of the model that it is of, so that only rows that are new are measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from olivine.evaluators.peers import measured, quality, timing
from olivine.evaluators.peers.measured import Measured
from olivine.evaluators.peers.quality import Windows
from olivine.evaluators.peers.rows import OLIVINE, Row
from olivine.evaluators.peers.summary import PeerRow
from olivine.evaluators.stats import Interval
from olivine.passes.store.digests import digest


@dataclass(frozen=True)
class Comparison:
    """Rows, and all that they are compared on.

    Attributes:
        checkpoint: Hugging Face folder that all of them come from.
        rows: olivine's and other engines'.
        windows: kind of text -> windows of token ids.
        prompts: token ids of each.
        work: folder in which measurements are kept.
        say: takes a line for people.
    """

    checkpoint: Path
    rows: Sequence[Row]
    windows: Windows
    prompts: Sequence[list[int]]
    work: Path
    say: Callable[[str], None] = print

    def score(self, jobs: int = 1) -> None:
        """Measure the rows whose content or windows are new, so many at once; others of the last run are forgotten."""
        references = {
            kind: quality.reference(self.checkpoint, kind, listed, self.work) for kind, listed in self.windows.items()
        }
        key, known, kept = digest(self.windows), measured.load(self._measured), dict[str, Measured]()

        def score_row(row: Row) -> Measured:
            content, old = row.content(), known.get(row.title)
            if old is not None and (old.content, old.windows) == (content, key):
                return old
            sums = quality.score(row, self.windows, references)
            return Measured(row.engine, row.name, row.deployed_bytes(), content, row.timed, key, sums)

        with ThreadPoolExecutor(jobs) as pool:
            for row in pool.map(score_row, self.rows):
                kept[row.title] = row
                divergences = {kind: f"{row.divergence(kind).value:.5f}" for kind in self.windows}
                self.say(f"{row.title}: KL {divergences}, {row.bytes / 1e6:.1f} MB")
                measured.save(self._measured, {**known, **kept})
        measured.save(self._measured, kept)

    def time(self, rounds: int, seconds: float = float("inf")) -> bool:
        """Add a slice of rounds; True when all of them are there."""
        rows = [(row, row.content()) for row in self.rows if row.timed]
        return timing.run_rounds(rows, self.prompts, self._visits, rounds, seconds, self.say)

    def results(self) -> list[Measured]:
        """All rows with what was measured of them."""
        return kept_results(self.work)

    @property
    def _measured(self) -> Path:
        return self.work / measured.FILE

    @property
    def _visits(self) -> Path:
        return self.work / timing.FILE


def kept_results(work: Path) -> list[Measured]:
    """All rows that were measured in a folder."""
    return measured.with_rates(measured.load(work / measured.FILE), work / timing.FILE)


def summarize(results: Sequence[Measured]) -> list[PeerRow]:
    """Olivine's row first, then the others as they come; float models are left out."""
    shown = sorted((row for row in results if row.timed), key=lambda row: row.engine != OLIVINE)
    ours = shown[0]
    return [
        PeerRow(
            row.engine,
            row.name,
            row.bytes,
            {kind: _ends(row.divergence(kind)) for kind in row.sums},
            _known(row.rate("decode")),
            _known(row.rate("prefill")),
            _over(ours, row, "decode"),
            _over(ours, row, "prefill"),
        )
        for row in shown
    ]


def _over(ours: Measured, row: Measured, what: str) -> tuple[float, float, float] | None:
    of, over = getattr(ours, what), getattr(row, what)
    return None if row is ours or not of.keys() & over.keys() else _ends(timing.speedup(of, over))


def _ends(interval: Interval) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
