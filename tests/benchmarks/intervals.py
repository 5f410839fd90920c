"""``make bench-coverage``: how often each interval holds the truth, at the sizes it is used at. Nothing is timed.

The truth is known, since it was put in: times of two models that share moods of the machine, are hit by other programs,
and whose processes have luck of the size that the intervals assume; windows of the demo text as real candidates were
scored on them (``early_stop.py --record``), drawn anew from all of them; normal and heavy-tailed samples. Hits are
added to those of earlier slices.

    python tests/benchmarks/intervals.py --runs 500
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import campaign
import early_stop
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from paired_times import times

from olivine.evaluators import stats
from olivine.evaluators.latency import speedup as paired
from olivine.evaluators.quality import formulas as perplexity
from olivine.evaluators.stats import Interval

NAME = SECTION = "coverage"
#: A use of an interval -> the interval and the truth.
Use = Callable[[np.random.Generator], tuple[Interval, float]]
SPEEDUP = math.log(1.3)
#: A speedup at which neighbours matter.
UNLIKE = 4.0
#: Rounds and processes of measurements of some 5, 10, 20 and 30 seconds.
TIMED = ((9, 2), (14, 4), (28, 8), (45, 10))
COUNTS = (8, 16, 60)


def uses() -> Iterator[tuple[str, str, Use]]:
    """Name of an interval, its size, and one simulated use."""
    for rounds, processes in TIMED:

        def prefill(rng: np.random.Generator, n: int = rounds, k: int = processes) -> tuple[Interval, float]:
            base, own = times(rng, n, k, paired.PREFILL_PROCESS_SD)
            return paired.prefill_speedup(1.3 * base, own, k), SPEEDUP

        def decode(
            rng: np.random.Generator, n: int = 2 * rounds, k: int = processes, neighbours: bool = False
        ) -> tuple[Interval, float]:
            base, own = times(rng, n, k, paired.DECODE_PROCESS_SD)
            found = paired.decode_speedup(UNLIKE * base, own, k)
            truth = math.log(UNLIKE)
            if not neighbours:
                return found, truth
            return paired.with_noisy_neighbours(found), truth + truth * paired.NOISY_NEIGHBOUR_SHARE * rng.normal()

        yield "prefill speedup", f"{rounds} rounds, {processes} processes", prefill
        yield "decode speedup", f"{2 * rounds} visits, {processes} processes", decode
        beside = partial(decode, neighbours=True)
        yield "decode speedup, neighbours included", f"{2 * rounds} visits, {processes} processes", beside
    populations = list(early_stop.recorded().values())
    for count in COUNTS:

        def ratio(rng: np.random.Generator, n: int = count) -> tuple[Interval, float]:
            text = populations[rng.integers(len(populations))]
            truth = perplexity.perplexity_ratio(text.nll, text.base_nll, text.tokens).value
            drawn = rng.integers(0, len(text.nll), n)
            return perplexity.perplexity_ratio(text.nll[drawn], text.base_nll[drawn], text.tokens[drawn]), truth

        def divergence(rng: np.random.Generator, n: int = count) -> tuple[Interval, float]:
            text = populations[rng.integers(len(populations))]
            drawn = rng.integers(0, len(text.nll), n)
            truth = perplexity.kl_divergence(text.kl, text.tokens).value
            return perplexity.kl_divergence(text.kl[drawn], text.tokens[drawn]), truth

        def centre(rng: np.random.Generator, n: int = count) -> tuple[Interval, float]:
            return stats.hodges_lehmann(rng.standard_t(3.0, n)), 0.0

        def mean(rng: np.random.Generator, n: int = count) -> tuple[Interval, float]:
            return stats.student(rng.normal(0, 1, n)), 0.0

        yield "perplexity ratio, recorded windows", f"{count} windows", ratio
        yield "KL divergence, recorded windows", f"{count} windows", divergence
        yield "the base's milliseconds (Hodges-Lehmann)", f"{count} samples", centre
        yield "Student's mean", f"{count} samples", mean

    def raced(rng: np.random.Generator) -> tuple[Interval, float]:
        spreads = (1.0, 0.5, 2.0)
        seen = [(rng.normal(0, sd), 1.96 * sd) for sd in spreads]
        return stats.pooled([Interval(value, value - half, value + half) for value, half in seen]), 0.0

    yield "raced members (pooled)", "3 measurements", raced
    for count in (16, 60):

        def anytime(rng: np.random.Generator, n: int = count) -> tuple[Interval, float]:
            samples = rng.normal(0.05, 0.1, n)
            looks = [stats.anytime_mean(samples[:seen]) for seen in range(3, n + 1)]
            low, high = max(found.low for found in looks), min(found.high for found in looks)
            return Interval(looks[-1].value, low, high), 0.05

        yield "early stop, at all looks at once (anytime mean)", f"3 to {count} windows", anytime


def simulate(runs: int, seed: int) -> campaign.Row:
    """How often each use held the truth."""
    hits: Counter[str] = Counter()
    for number, (name, size, use) in enumerate(uses()):
        rng = np.random.default_rng([seed, number])
        hits[f"{name}|{size}"] = sum(
            found.low <= truth <= found.high for found, truth in (use(rng) for _ in range(runs))
        )
    return {"runs": runs, "seed": seed, "hits": dict(hits)}


def table(rows: Sequence[campaign.Row]) -> str:
    """Shares over all slices."""
    runs = sum(row["runs"] for row in rows)
    hits: Counter[str] = Counter()
    for row in rows:
        hits.update(row["hits"])
    error = 1.96 * math.sqrt(0.95 * 0.05 / runs)
    lines = [
        f"`make bench-coverage`: {runs} simulations of each, which give a share of 95 % to ±{error:.1%}. That of early "
        "stopping promises at least 95 % over all looks at once, so it holds more often.",
        "",
        "| 95 % interval | size | holds the truth |",
        "|---|---|---|",
    ]
    for key, count in hits.items():
        name, size = key.split("|")
        lines.append(f"| {name} | {size} | {count / runs:.1%} |")
    return "\n".join(lines)


def main() -> None:
    """Add a slice, and write the section."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=3000, help="simulations of each use to add now")
    runs = arguments.parse_args().runs
    campaign.append(NAME, simulate(runs, seed=len(campaign.rows(NAME))))
    campaign.write(SECTION, table(campaign.rows(NAME)))


if __name__ == "__main__":
    main()
