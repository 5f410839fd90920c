"""What the campaigns behind results/numbers.md share: slices, rows that are kept as they come, sections of that page.

Each row is appended to a file of its campaign in ``build/campaigns`` at once, and every slice ends with the campaign's
section of the page, made anew of all rows there are.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from olivine.passes.store.atomic_files import write_atomic
from olivine.search.environment import describe_environment

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "campaigns"
PAGE = ROOT / "results" / "numbers.md"

Row = dict[str, Any]


def rows(name: str) -> list[Row]:
    """The rows that a campaign has recorded so far."""
    path = FOLDER / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append(name: str, row: Row) -> None:
    """Keep one row."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def slice_options(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The options that bound a slice of a campaign of timings."""
    parser.add_argument("--runs", type=int, help="runs to add now; by default as many as --seconds hold")
    parser.add_argument("--seconds", type=float, help="begin no run after so many seconds")
    parser.add_argument("--every", type=float, default=0.0, help="seconds from one run's start to the next at least")
    parser.add_argument("--threads", type=int, default=1, help="of each model; 1 is ONNX Runtime GenAI's default")
    return parser


def carry_on(
    name: str,
    section: str,
    options: argparse.Namespace,
    run: Callable[[int], Row],
    table: Callable[[Sequence[Row]], str],
) -> None:
    """Add a slice of runs to a campaign.

    Args:
        name: of its file.
        section: of the page.
        options: as :func:`slice_options` parses them.
        run: number of the run among those with these threads -> its row.
        table: all rows -> the section's text.
    """
    if options.runs is None and options.seconds is None:
        raise SystemExit("Give --runs or --seconds: how much of the campaign to run now.")
    started = time.monotonic()
    done = 0
    while options.runs is None or done < options.runs:
        time.sleep(max(0.0, started + done * options.every - time.monotonic()))
        if options.seconds is not None and time.monotonic() - started > options.seconds:
            break
        row = run(sum(row["threads"] == options.threads for row in rows(name)))
        append(name, row)
        done += 1
        print({key: value for key, value in row.items() if key != "samples"}, flush=True)
    if found := rows(name):
        write(section, table(found))


def machine() -> str:
    """Processor and cores, for a page."""
    found = describe_environment()
    return f"{found['cpu']}, {found['cores']} cores"


def write(section: str, text: str) -> None:
    """Replace what stands between a section's two marks on the page.

    Raises:
        LookupError: when the page has no such marks.
    """
    begin, end = f"<!-- {section} -->\n", f"<!-- /{section} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    old = PAGE.read_text()
    if not pattern.search(old):
        raise LookupError(f"{PAGE} has no '{begin.strip()}' ... '{end}'")
    write_atomic(PAGE, pattern.sub(lambda _: f"{begin}{text.strip()}\n{end}", old))
