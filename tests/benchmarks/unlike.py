"""``make bench-unlike``: what measurements of models that are unlike differ by, minutes apart.

Every folder is timed beside the base again and again, in turn. What the runs differ by beyond their own intervals is
what further rounds of one measurement can't tell: what else the host does meanwhile.

    olivine export STUDY --trial 5 --to int4
    python tests/benchmarks/unlike.py float int4 int8 --runs 30
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist, median

import campaign
import numpy as np
import pairs

NAME = SECTION = "unlike"
PAIR_SECONDS = 20.0
#: Standard errors in half of an interval.
ERRORS = NormalDist().inv_cdf(0.975)


def excess(rows: Sequence[campaign.Row], metric: str) -> tuple[float, float]:
    """Standard deviation of log speedups between runs beyond what their intervals say, and the mean log speedup."""
    found = [pairs.log_speedups(row)[metric] for row in rows]
    values = np.array([interval.value for interval in found])
    within = float(np.mean([(interval.half_width / ERRORS) ** 2 for interval in found]))
    return math.sqrt(max(0.0, float(values.var(ddof=1)) - within)), float(values.mean())


def overlapping(rows: Sequence[campaign.Row], metric: str) -> tuple[int, int]:
    """How many pairs of runs have intervals that overlap, and how many pairs there are."""
    ends = [pairs.speedups(row)[metric][1:] for row in rows]
    found = [a[0] <= b[1] and b[0] <= a[1] for a, b in itertools.combinations(ends, 2)]
    return sum(found), len(found)


def table(rows: Sequence[campaign.Row]) -> str:
    """What the runs differ by, and what share of the log speedup that is."""
    span = (rows[-1]["started"] - rows[0]["started"]) / 60
    lines = [
        f"`make bench-unlike` on {campaign.machine()}: {len(rows)} runs of {PAIR_SECONDS:g} s in {span:.0f} minutes, "
        "models of several threads beside the float base of the demo model.",
        "",
        "| model | metric | runs | median value | runs differ by | beyond their intervals | of the log speedup "
        "| intervals of two runs overlap |",
        "|---|---|---|---|---|---|---|---|",
    ]
    squares = np.zeros(2)
    for name, metric in itertools.product(dict.fromkeys(row["name"] for row in rows), pairs.SPEEDUPS):
        chosen = [row for row in rows if row["name"] == name]
        if len(chosen) < 3:
            continue
        beyond, log = excess(chosen, metric)
        squares += beyond**2, log**2
        values = [pairs.speedups(row)[metric][0] for row in chosen]
        hits, count = overlapping(chosen, metric)
        cells = f"{np.log(values).std(ddof=1):.2%} | {beyond:.2%} | {beyond / abs(log):.2%} | {hits / count:.0%}"
        lines.append(f"| {name} | {metric} | {len(chosen)} | {median(values):.3f} | {cells} |")
    share = math.sqrt(squares[0] / squares[1]) if squares[1] else 0.0
    return "\n".join(
        [*lines, "", f"Over all, what runs differ by beyond their intervals is {share:.2%} of the log speedup."]
    )


def main() -> None:
    """Add runs to those that are recorded, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    options = campaign.slice_options(parser).parse_args()

    def run(_: int) -> campaign.Row:
        folder = options.folders[len(campaign.rows(NAME)) % len(options.folders)]
        seed = len(campaign.rows(NAME)) // len(options.folders)
        return {"name": folder.name, **pairs.timed(folder, options.base, PAIR_SECONDS, seed)}

    campaign.carry_on(NAME, SECTION, options, run, table)


if __name__ == "__main__":
    main()
