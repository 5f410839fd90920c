"""``make bench-study``: candidates decided from a cold start, and what that takes: memory, disk, olivine's own time.

The study runs in an empty cache; the demo's downloads are there already. Writes a page to the file that is given.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from footprint import Watch

from olivine.passes.store.cache import cache_root, scratch_folder
from olivine.search.environment import describe_environment

CONFIG = Path(__file__).parent / "throughput.yaml"


@dataclass(frozen=True)
class Rate:
    """What a study did in a time.

    Attributes:
        seconds: from the start of the command.
        records: of the trials that had ended by then.
        anonymous_bytes: largest sum over all processes.
        shared_bytes: largest sum of resident memory, where a page that several processes map counts once.
        disk_bytes: of cache and study folder at the end; a file with several names counts once.
        overhead_s: of each trial, what is neither building nor measuring nor evaluating.
    """

    seconds: float
    records: list[dict[str, Any]]
    anonymous_bytes: int
    shared_bytes: int
    disk_bytes: int
    overhead_s: list[float]


def run_study(seconds: float, scratch: Path) -> Rate:
    """Run the study for ``seconds``, then end it."""
    (scratch / "cache").mkdir()
    shutil.copytree(cache_root() / "demo", scratch / "cache" / "demo", copy_function=os.link)
    study = scratch / "study"
    command = [sys.executable, "-m", "olivine.search.cli.main", "run", str(CONFIG), "--out", str(study)]
    environment = {**os.environ, "OLIVINE_CACHE": str(scratch / "cache")}
    started = time.time()
    with (scratch / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        with Watch(process.pid) as watch:
            time.sleep(seconds)
            process.kill()  # its children end with it; what counts is written as each trial ends
            process.wait()
    ended = {path: path.stat().st_mtime for path in sorted((study / "trials").glob("*.json"))}
    if not ended:
        raise RuntimeError((scratch / "log").read_text())
    records = [json.loads(path.read_text()) for path, at in ended.items() if at <= started + seconds]
    times = list(ended.values())
    phases = [sum(json.loads(path.read_text())["phases"].values()) for path in ended]
    overhead = [after - before - spent for before, after, spent in zip(times, times[1:], phases[1:], strict=False)]
    return Rate(seconds, records, watch.anonymous_bytes, watch.shared_bytes, disk_bytes(scratch), overhead)


def disk_bytes(folder: Path) -> int:
    """Bytes below a folder; a file with several names counts once."""
    files = {(s.st_dev, s.st_ino): s.st_blocks * 512 for s in (p.lstat() for p in folder.rglob("*") if p.is_file())}
    return sum(files.values())


def rows(rate: Rate) -> list[str]:
    """The page's lines on a study."""
    candidates = [record for record in rate.records if record["number"] > 0]
    if not candidates:
        raise SystemExit(f"no candidate had ended after {rate.seconds:.0f} s; give it more with --seconds")
    states = Counter(record["state"] for record in candidates)
    keys = {record["recipe_key"] for record in candidates if record["state"] != "failed"}
    phases = {
        name: statistics.median(record["phases"].get(name, 0.0) for record in candidates if name in record["phases"])
        for name in ("build", "load", "quality", "latency")
        if any(name in record["phases"] for record in candidates)
    }
    trial = statistics.mean(sum(record["phases"].values()) for record in candidates)
    overhead = statistics.mean(rate.overhead_s[1:] or rate.overhead_s)
    named = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in phases.items())
    return [
        "| seconds | decided, distinct | measured | surely dropped | failed | anonymous MB | resident MB | disk MB |",
        "|---|---|---|---|---|---|---|---|",
        f"| {rate.seconds:.0f} | {len(keys)} | {states['complete']} | {states['infeasible']} | {states['failed']} "
        f"| {rate.anonymous_bytes / 1e6:.0f} | {rate.shared_bytes / 1e6:.0f} | {rate.disk_bytes / 1e6:.0f} |",
        "",
        f"Medians of the phases, as a trial waits for them: {named}. Of a trial of {trial:.1f} s, "
        f"{overhead:.2f} s ({overhead / (trial + overhead):.1%}) are olivine's own: proposing, writing, telling.",
    ]


def page(rate: Rate, command: str) -> str:
    """The page on a study that ``command`` ran."""
    machine = describe_environment()
    lines = [
        "# Candidates decided from a cold start",
        "",
        f"`{command}` on {machine['cpu']}, {machine['cores']} cores; the demo model, its export included.",
        "Memory is that of all processes together; pages that several of them map count once.",
        "",
        *rows(rate),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run, print, write."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=600.0)
    arguments.add_argument("--to", type=Path)
    options = arguments.parse_args()
    with scratch_folder("bench") as scratch:
        found = page(run_study(options.seconds, scratch), "make bench-study")
    print(found)
    if options.to:
        options.to.write_text(found, encoding="utf-8")


if __name__ == "__main__":
    main()
