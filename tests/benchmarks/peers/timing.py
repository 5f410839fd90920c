"""Speed of every row: visits in turns, each a fresh process, while the machine's cores lie side by side."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path

import numpy as np
from peers.process import running
from peers.rows import Row

from olivine.evaluators.latency.core_placement import THIS_MACHINE, Placement, least_adjacent
from olivine.evaluators.process.scheduling import own_cores
from olivine.evaluators.stats import Interval, hodges_lehmann
from olivine.passes.store.digests import digest

NEW_TOKENS = 64
#: Prompts of a visit: the first ones warm the engine up and do not count.
WARM, COUNTED = 1, 3
#: Seconds that an engine's threads may take to end their spinning, and that cores may rest in a slice.
SETTLE_S, ALLOWANCE_S = 0.05, 60.0


@dataclass(frozen=True)
class Visit:
    """Times of one row in one round.

    Attributes:
        round: its number.
        campaign: key of the rows that are compared with it in this round.
        title: of the row.
        content: hash of what was loaded (:meth:`Row.content`).
        prefill_s: [prompts] seconds to the first new token.
        decode_s: [prompts] seconds from there to the last one.
        distances: [prompts] of the cores, the one of before and after that is further from side by side; NaN unknown.
        adjacent: [prompts] whether the cores lay side by side.
    """

    round: int
    campaign: str
    title: str
    content: str
    prefill_s: list[float]
    decode_s: list[float]
    distances: list[float]
    adjacent: list[bool]

    def rates(self, prompt_tokens: int) -> tuple[float, float] | None:
        """Prefill and decode in tokens per second, the medians; None where the cores lay apart all the time."""
        counted = np.array(self.adjacent)
        if not counted.any():
            return None
        first, rest = (float(np.median(np.array(times)[counted])) for times in (self.prefill_s, self.decode_s))
        return prompt_tokens / first, (NEW_TOKENS - 1) / rest


def visits(path: Path) -> list[Visit]:
    """All visits that a file holds."""
    return [Visit(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def run_rounds(
    rows: Sequence[tuple[Row, str]], prompts: Sequence[list[int]], path: Path, rounds: int, seconds: float
) -> bool:
    """Add visits to a file until every row has so many rounds, or the time is up.

    A round visits every row once, in random order; a slice goes on in the round that the last one ended in.

    Args:
        rows: with the hash of their content.
        prompts: that visits go through, those of a round the same for all rows.
        path: of the file.
        rounds: that all rows shall have.
        seconds: begin no visit after so many.

    Returns:
        True when all rounds are there.
    """
    started = time.monotonic()
    campaign = digest(sorted((row.title, content) for row, content in rows))
    with THIS_MACHINE.watched(own_cores(), ALLOWANCE_S) as placement:
        for number, row, content in _missing(rows, campaign, visits(path), rounds):
            if time.monotonic() - started > seconds:
                return False
            first = number * (WARM + COUNTED)
            chosen = [prompts[(first + place) % len(prompts)] for place in range(WARM + COUNTED)]
            visit = Visit(number, campaign, row.title, content, *_times(row, chosen, placement))
            with path.open("a") as file:
                file.write(json.dumps(asdict(visit)) + "\n")
            print(number, row.title, visit.rates(len(chosen[0])), flush=True)
    return True


def _missing(
    rows: Sequence[tuple[Row, str]], campaign: str, done: Sequence[Visit], rounds: int
) -> Iterator[tuple[int, Row, str]]:
    """Visits that are still to be made. Rounds in which other rows, or other contents, took turns are left alone."""
    of_others = {visit.round for visit in done if visit.campaign != campaign}
    made = {(visit.round, visit.title) for visit in done}
    free = (number for number in count() if number not in of_others)
    for number in islice(free, rounds):
        order = np.random.default_rng(number).permutation(len(rows))
        yield from ((number, *rows[place]) for place in order if (number, rows[place][0].title) not in made)


def _times(
    row: Row, prompts: Sequence[list[int]], placement: Placement | None
) -> tuple[list[float], list[float], list[float], list[bool]]:
    """Prefill and decode seconds of the prompts that count, how far apart the cores were, and whether that was near."""
    first, rest, distances = [], [], list[float]()
    with running(row.launch, timed=True) as engine:
        for place, prompt in enumerate(prompts):
            request = {"generate": prompt, "new_tokens": NEW_TOKENS}
            if place < WARM:
                engine.ask(request)
                continue
            time.sleep(SETTLE_S)
            before = placement.wait_until_adjacent()[1] if placement else math.nan
            prefill_s, decode_s = engine.ask(request)
            time.sleep(SETTLE_S)
            distances.append(least_adjacent([before, placement.measure() if placement else math.nan]))
            first.append(float(prefill_s))
            rest.append(float(decode_s))
    adjacent = placement.adjacent(distances).tolist() if placement else [True] * len(distances)
    return first, rest, distances, adjacent


def speedup(of: dict[int, float], over: dict[int, float]) -> Interval:
    """Ratio of two rows' rates with its interval: the centre of the log ratios of the rounds that have both."""
    common = sorted(of.keys() & over.keys())
    return hodges_lehmann(np.array([np.log(of[number] / over[number]) for number in common])).exp()
