"""Speed of every row: visits in turns, each a fresh process, while the machine's cores lie side by side."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np

from olivine.evaluators.latency.core_placement import THIS_MACHINE, Placement, least_adjacent
from olivine.evaluators.peers.process import real_time, running
from olivine.evaluators.peers.rows import Row
from olivine.evaluators.process.scheduling import own_cores
from olivine.evaluators.stats import Interval, hodges_lehmann
from olivine.passes.store.digests import digest

PROMPT_TOKENS, NEW_TOKENS = 256, 64
#: In a folder of a comparison.
FILE = "visits.jsonl"
#: Prompts of a visit: the first ones warm the engine up and do not count.
WARM, COUNTED = 1, 2
#: Seconds between prompts, in which an engine's threads end their spinning, and that cores may rest in a slice. The
#: kernel takes 5 % of each second from real-time programs that would use all of it.
SETTLE_S, ALLOWANCE_S = 0.15, 20.0
#: A prompt counts where the engine's threads waited for a core for at most this share of its time.
WAITED = 0.1


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
        waited: [prompts] time that the engine's threads waited for a core, over the time of the prompt.
    """

    round: int
    campaign: str
    title: str
    content: str
    prefill_s: list[float]
    decode_s: list[float]
    distances: list[float]
    adjacent: list[bool]
    waited: list[float]

    def rates(self, prompt_tokens: int) -> tuple[float, float] | None:
        """Prefill and decode in tokens per second, the medians of prompts that nothing disturbed; None where none is.

        Where cores lay side by side for some of them, the others do not count.
        """
        counted = np.array(self.waited) <= WAITED
        if (counted & self.adjacent).any():
            counted &= self.adjacent
        if not counted.any():
            return None
        first, rest = (float(np.median(np.array(times)[counted])) for times in (self.prefill_s, self.decode_s))
        return prompt_tokens / first, (NEW_TOKENS - 1) / rest


def visits(path: Path) -> list[Visit]:
    """All visits that a file holds."""
    return [Visit(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def run_rounds(
    rows: Sequence[tuple[Row, str]],
    prompts: Sequence[list[int]],
    path: Path,
    rounds: int,
    seconds: float,
    say: Callable[[str], None] = print,
) -> bool:
    """Add visits to a file until every row has so many rounds, or the time is up.

    A round visits every row once, in random order; a slice goes on in the round that the last one ended in.

    Args:
        rows: with the hash of their content.
        prompts: that visits go through, those of a round the same for all rows.
        path: of the file.
        rounds: that all rows shall have.
        seconds: begin no visit after so many.
        say: takes a line for people after each visit.

    Returns:
        True when all rounds are there.
    """
    started = time.monotonic()
    campaign = digest(sorted((row.title, content) for row, content in rows))
    with real_time(), THIS_MACHINE.watched(own_cores(), ALLOWANCE_S) as placement:
        for number, row, content in _missing(rows, campaign, visits(path), rounds):
            if time.monotonic() - started > seconds:
                return False
            first = number * (WARM + COUNTED)
            chosen = [prompts[(first + place) % len(prompts)] for place in range(WARM + COUNTED)]
            visit = Visit(number, campaign, row.title, content, **_times(row, chosen, placement))
            with path.open("a") as file:
                file.write(json.dumps(asdict(visit)) + "\n")
            waited = ", ".join(f"{share:.3f}" for share in visit.waited)
            say(f"round {number}, {row.title}: {_rates_text(visit.rates(len(chosen[0])))}, threads waited {waited}")
    return True


def _rates_text(rates: tuple[float, float] | None) -> str:
    return "disturbed" if rates is None else f"prefill {rates[0]:.0f} tok/s, decode {rates[1]:.0f} tok/s"


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


def _times(row: Row, prompts: Sequence[list[int]], placement: Placement | None) -> dict[str, list[Any]]:
    """The times of the prompts that count, and whether they were disturbed: fields of a :class:`Visit`."""
    found: dict[str, list[Any]] = {name: [] for name in ("prefill_s", "decode_s", "distances", "waited")}
    with running(row.launch) as engine:
        for prompt in prompts[:WARM]:
            engine.ask({"generate": prompt, "new_tokens": NEW_TOKENS})
        for prompt in prompts[WARM:]:
            time.sleep(SETTLE_S)
            before = placement.wait_until_adjacent()[1] if placement else math.nan
            waited_s = engine.waited_s()
            prefill_s, decode_s = engine.ask({"generate": prompt, "new_tokens": NEW_TOKENS})
            found["waited"].append((engine.waited_s() - waited_s) / (prefill_s + decode_s))
            time.sleep(SETTLE_S)
            found["distances"].append(least_adjacent([before, placement.measure() if placement else math.nan]))
            found["prefill_s"].append(prefill_s)
            found["decode_s"].append(decode_s)
    near = placement.adjacent(found["distances"]).tolist() if placement else [True] * len(found["distances"])
    return {**found, "adjacent": near}


def speedup(of: dict[int, float], over: dict[int, float]) -> Interval:
    """Ratio of two rows' rates with its interval: the centre of the log ratios of the rounds that have both."""
    common = sorted(of.keys() & over.keys())
    return hodges_lehmann(np.array([np.log(of[number] / over[number]) for number in common])).exp()
