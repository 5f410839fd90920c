"""Write results/reliability.md from what ``chaos.py``, ``memory.py`` and ``tests/fuzz/fuzz.py`` left in ``build``."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

CHAOS, FUZZ = Path("build/chaos"), Path("build/fuzz")
#: What a violation begins with -> what it is a case of.
KINDS = {
    "lost": "finished trials lost",
    "twice": "recipes measured twice as new",
    "sequence": "lives whose sequence of proposals differs from that of an uninterrupted one",
    "unreadable": "studies that could not be read",
    "untold": "trials that record and database tell differently",
    "leaked": "processes that outlive their study",
    "left": "temporary files after the end",
    "hangs": "hangs",
    "broken": "studies that did not end",
}


def chaos(home: Path) -> list[str]:
    """The campaign's section."""
    log = home / "kills.jsonl"
    if not log.exists():
        return ["No campaign has been run here: `make chaos`.", ""]
    lives = [line for line in map(json.loads, log.read_text().splitlines()) if line["event"] == "life"]
    victims = Counter(victim for life in lives for victim in life["victims"])
    found = Counter(violation.partition(":")[0] for life in lives for violation in life["violations"])
    kills, resumed = sum(life["kills"] for life in lives), sum(len(life["codes"]) - 1 for life in lives)
    rows = [f"| {text} | {found[kind]} |" for kind, text in KINDS.items()]
    hit = ", ".join(f"{count} of {name.replace('_', ' ')}" for name, count in victims.most_common())
    return [
        f"{kills} kills (SIGKILL) at random moments in {len(lives)} lives of a study, resumed {resumed} times; the "
        f"victims: {hit}.",
        "",
        "| found | |",
        "|---|---|",
        *rows,
        "",
    ]


def memory(path: Path) -> list[str]:
    """The section on memory."""
    if not path.exists():
        return ["Not measured here: `make chaos`.", ""]
    about = json.loads(path.read_text())
    rows = []
    for kind in ("control group", "watch"):
        for fault, text in (("eat", "10 MB every 20 ms"), ("gulp", "as fast as it can")):
            runs = [run for run in about["runs"] if run["kind"] == kind and run["fault"] == fault]
            if runs:
                over = max(run["peak_bytes"] for run in runs) - about["limit_bytes"]
                longest = max((run["seconds"] for run in runs if run["seconds"] is not None), default=None)
                shown = "" if longest is None else f"{longest:.2f} s"
                rows.append(f"| {kind} | {text} | {len(runs)} | {over / 1e6:.0f} MB | {shown} |")
    head = ["| kept by | it takes | runs | most beyond the limit | longest life beyond it |", "|---|---|---|---|---|"]
    return [f"Model processes with a limit of {about['limit_bytes'] / 1e6:.0f} MB.", "", *head, *rows, ""]


def fuzz(home: Path) -> list[str]:
    """The fuzzers' section."""
    found: list[dict[str, Any]] = [json.loads(path.read_text()) for path in sorted(home.glob("*.json"))]
    if not found:
        return ["Not fuzzed here: `make fuzz`.", ""]
    rows = [
        f"| {one['reader']} | {one['inputs']:,} | {one['findings']} | {one['coverage']} | {one['corpus']} | "
        f"{one['seconds']} |"
        for one in found
    ]
    head = ["| reader | inputs | crashes, hangs, files outside | edges | corpus | s |", "|---|---|---|---|---|---|"]
    return [*head, *rows, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, default=Path("results/reliability.md"))
    parser.add_argument("--chaos", type=Path, default=CHAOS)
    parser.add_argument("--fuzz", type=Path, default=FUZZ)
    options = parser.parse_args()
    lines = [
        "# Reliability",
        "",
        "Written by `make chaos` and `make fuzz`.",
        "",
        "## Kills",
        "",
        *chaos(options.chaos),
        "## Memory",
        "",
        *memory(options.chaos / "memory.json"),
        "## Hostile files",
        "",
        *fuzz(options.fuzz),
    ]
    options.to.write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
