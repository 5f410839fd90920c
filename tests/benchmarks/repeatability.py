"""``make bench-aa``: a model against its own copy; how often the interval of a speedup that is 1 holds 1.

Runs of 10 and of 30 seconds take turns. Each is kept as it ends, so that they can be spread over hours.

    python tests/benchmarks/repeatability.py --runs 80
    python tests/benchmarks/repeatability.py --seconds 600      # begins no run later than that
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from statistics import median

import campaign
import pairs

NAME, SECTION = "aa", "copies"
PAIR_SECONDS = (10.0, 30.0)


def table(rows: Sequence[campaign.Row]) -> str:
    """What the rows say."""
    span = (rows[-1]["started"] - rows[0]["started"]) / 60
    loads = [row["load"] for row in rows]
    lines = [
        f"`make bench-aa` on {campaign.machine()}: {len(rows)} runs in {span:.0f} minutes, at a load average of "
        f"{min(loads):.1f} to {max(loads):.1f} before each; fp32 demo model, prompt of 128 tokens. Seconds are those "
        "of timing; the starts of processes come on top.",
        "",
        "| threads | s a pair | runs | metric | median value | median half-width | holds 1 |",
        "|---|---|---|---|---|---|---|",
    ]
    for threads, seconds in sorted({(row["threads"], row["seconds"]) for row in rows}):
        chosen = [row for row in rows if (row["threads"], row["seconds"]) == (threads, seconds)]
        for name in pairs.SPEEDUPS:
            ends = [pairs.speedups(row)[name] for row in chosen]
            width = median((high / low - 1) / 2 for _, low, high in ends)
            held = sum(low <= 1 <= high for _, low, high in ends)
            value = median(end[0] for end in ends)
            cells = f"{name} | {value:.4f} | {width:.2%} | {held} of {len(ends)}"
            lines.append(f"| {threads} | {seconds:g} | {len(ends)} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Add runs to those that are recorded, and write the section."""
    options = campaign.slice_options(argparse.ArgumentParser(description=__doc__)).parse_args()
    home = pairs.models(options.threads)

    def run(number: int) -> campaign.Row:
        row = pairs.timed(home / pairs.COPY, home / pairs.BASE, PAIR_SECONDS[number % len(PAIR_SECONDS)], number)
        return {"threads": options.threads, **row}

    campaign.carry_on(NAME, SECTION, options, run, table)


if __name__ == "__main__":
    main()
