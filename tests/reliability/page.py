"""Write results/reliability.md from what ``chaos.py``, ``memory.py`` and ``tests/fuzz/fuzz.py`` left in ``build``.

What was not run here stays on the page as it was; the table of faults is that of ``faults.py``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from reliability.faults import FAULTS

from olivine.search.environment import describe_environment

CHAOS, FUZZ, PAGE = Path("build/chaos"), Path("build/fuzz"), Path("results/reliability.md")
READERS = {
    "yaml": "study files",
    "gguf": "GGUF headers",
    "safetensors": "safetensors headers",
    "external": "external data",
}
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


def machine() -> str:
    """Where this runs, in a line."""
    found = describe_environment()
    return f"{found['cpu']}, {found['cores']} cores, olivine {found['versions']['olivine']}"


def fault_table() -> list[str]:
    """Fault -> what is seen and what stays -> the tests."""
    rows = [
        f"| {fault.name} | {fault.outcome} | {'<br>'.join(f'`{test}`' for test in fault.tests)} |" for fault in FAULTS
    ]
    return ["| fault | seen, and left on the disk | tests, below `tests/` |", "|---|---|---|", *rows]


def before(page: str, title: str) -> list[str]:
    """A section of the page as it was."""
    found = re.search(rf"^## {title}\n\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    return [] if found is None else [*found[1].rstrip().splitlines(), ""]


def chaos(home: Path, page: str) -> list[str]:
    """The campaign's section."""
    log = home / "kills.jsonl"
    if not log.exists():
        return before(page, "Kills")
    lives = [line for line in map(json.loads, log.read_text().splitlines()) if line["event"] == "life"]
    victims = Counter(victim for life in lives for victim in life["victims"])
    found = Counter(violation.partition(":")[0] for life in lives for violation in life["violations"])
    kills, resumed = sum(life["kills"] for life in lives), sum(len(life["codes"]) - 1 for life in lives)
    rows = [f"| {text} | {found[kind]} |" for kind, text in KINDS.items()]
    hit = ", ".join(f"{count} of {name.replace('_', ' ')}" for name, count in victims.most_common())
    return [
        f"{kills} kills (SIGKILL) at random moments in {len(lives)} lives of a study, resumed {resumed} times; the "
        f"victims: {hit}. {machine()}.",
        "",
        "| found | |",
        "|---|---|",
        *rows,
        "",
    ]


def memory(path: Path, page: str) -> list[str]:
    """The section on memory."""
    if not path.exists():
        return before(page, "Memory")
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


def fuzz(home: Path, page: str) -> list[str]:
    """The fuzzers' section."""
    rows = {line.split("|")[1].strip(): line for line in before(page, "Hostile files") if line.startswith("| ")}
    for path in sorted(home.glob("*.json")):
        one: dict[str, Any] = json.loads(path.read_text())
        name = READERS[one["reader"]]
        counts = (name, f"{one['inputs']:,}", one["findings"], one["coverage"], one["corpus"], one["seconds"])
        rows[name] = f"| {' | '.join(map(str, counts))} |"
    return [
        "| reader | inputs | crashes, hangs, files outside | edges | corpus | s |",
        "|---|---|---|---|---|---|",
        *(rows[name] for name in READERS.values() if name in rows),
        "",
        "Found on the way, refused now and in the corpus: in a graph, a shape with a zero and a dimension of 2^62 (it",
        "overflowed numpy); in a study file, an integer too large for a float.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, default=PAGE)
    parser.add_argument("--chaos", type=Path, default=CHAOS)
    parser.add_argument("--fuzz", type=Path, default=FUZZ)
    options = parser.parse_args()
    page = options.to.read_text() if options.to.exists() else ""
    lines = [
        "# Reliability",
        "",
        "Written by `make chaos` and `make fuzz`.",
        "",
        "## Kills",
        "",
        *chaos(options.chaos, page),
        "## Memory",
        "",
        *memory(options.chaos / "memory.json", page),
        "## Hostile files",
        "",
        *fuzz(options.fuzz, page),
        "",
        "## Faults",
        "",
        "Each is injected by the tests that are named; what they assert is the middle column.",
        "",
        *fault_table(),
    ]
    options.to.write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
