"""``make bench-detection``: models with a few layers more; how often the right one is called slower in 20 seconds.

python tests/benchmarks/detection.py --runs 60
python tests/benchmarks/detection.py --seconds 600      # begins no run later than that
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from statistics import median

import campaign
import pairs

NAME = SECTION = "detection"
PAIR_SECONDS = 20.0


def table(rows: Sequence[campaign.Row]) -> str:
    """How many runs called the deeper model slower, could not tell, or called it faster."""
    loads = [row["load"] for row in rows]
    lines = [
        f"`make bench-detection` on {campaign.machine()}: fp32 demo model against itself with layers added to its 30, "
        f"{PAIR_SECONDS:g} s a pair, at a load average of {min(loads):.1f} to {max(loads):.1f} before each run.",
        "",
        "| threads | layers more | runs | metric | median value | called slower | not told apart | called faster |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for threads, more in sorted({(row["threads"], row["more"]) for row in rows}):
        chosen = [row for row in rows if (row["threads"], row["more"]) == (threads, more)]
        for name in pairs.SPEEDUPS:
            ends = [pairs.speedups(row)[name] for row in chosen]
            slower, faster = sum(high < 1 for _, _, high in ends), sum(low > 1 for _, low, _ in ends)
            value = median(end[0] for end in ends)
            counts = f"{slower} | {len(ends) - slower - faster} | {faster}"
            lines.append(f"| {threads} | {more} | {len(ends)} | {name} | {value:.4f} | {counts} |")
    return "\n".join(lines)


def main() -> None:
    """Add runs to those that are recorded, and write the section."""
    options = campaign.slice_options(argparse.ArgumentParser(description=__doc__)).parse_args()
    home = pairs.models(options.threads)

    def run(number: int) -> campaign.Row:
        done = Counter(row["more"] for row in campaign.rows(NAME) if row["threads"] == options.threads)
        more = min(pairs.MORE_LAYERS, key=lambda layers: done[layers])
        row = pairs.timed(home / pairs.deeper(more), home / pairs.BASE, PAIR_SECONDS, number)
        return {"threads": options.threads, "more": more, **row}

    campaign.carry_on(NAME, SECTION, options, run, table)


if __name__ == "__main__":
    main()
