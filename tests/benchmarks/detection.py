"""``make bench-detection``: models with a few layers more; how often the right one is called slower in 20 seconds.

python tests/benchmarks/detection.py --runs 80
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
        f"`make bench-detection` on {campaign.machine()}: fp32 demo model, its 30 layers or the first 24, beside "
        f"itself with layers added, {PAIR_SECONDS:g} s a pair, at a load average of {min(loads):.1f} to "
        f"{max(loads):.1f} before each run.",
        "",
        "| threads | layers | more | runs | metric | median value | called slower | not told apart | called faster |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for kind in sorted({_kind(row) for row in rows}, key=lambda kind: (kind[0], kind[2] / kind[1])):
        threads, layers, more = kind
        chosen = [row for row in rows if _kind(row) == kind]
        for name in pairs.SPEEDUPS:
            ends = [pairs.speedups(row)[name] for row in chosen]
            slower, faster = sum(high < 1 for _, _, high in ends), sum(low > 1 for _, low, _ in ends)
            value = median(end[0] for end in ends)
            counts = f"{slower} | {len(ends) - slower - faster} | {faster}"
            lines.append(f"| {threads} | {layers} | {more} | {len(ends)} | {name} | {value:.4f} | {counts} |")
    return "\n".join(lines)


def _kind(row: campaign.Row) -> tuple[int, int, int]:
    """Threads, layers of the base, and layers more."""
    return row["threads"], row.get("layers", pairs.LAYERS), row["more"]


def main() -> None:
    """Add runs to those that are recorded, and write the section."""
    options = campaign.slice_options(argparse.ArgumentParser(description=__doc__)).parse_args()
    home = pairs.models(options.threads)

    def run(number: int) -> campaign.Row:
        done = Counter(_kind(row)[1:] for row in campaign.rows(NAME) if row["threads"] == options.threads)
        layers, more = min(pairs.PLANTED, key=lambda planted: done[planted])
        names = (pairs.folder_name(layers, added) for added in (more, 0))
        row = pairs.timed(*(home / name for name in names), PAIR_SECONDS, number)
        return {"threads": options.threads, "layers": layers, "more": more, **row}

    campaign.carry_on(NAME, SECTION, options, run, table)


if __name__ == "__main__":
    main()
