"""How long a child that has passed its memory limit lives, and how far it gets: into ``build/chaos/memory.json``.

The child, a model's process, takes 10 MB every 20 ms, or all it can get; with a control group, and with the watch
alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from olivine.evaluators.process.bootstrap import child_command
from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.process.connection import Connection
from olivine.evaluators.process.failure import ModelProcessFailed
from olivine.evaluators.process.memory_limit import MemoryWatch
from olivine.passes.errors import Excess

LIMIT_BYTES = 500_000_000
FAULTS = Path(__file__).resolve().parents[1] / "faults"


def once(plan: Path, fault: str, groups: bool) -> dict[str, Any]:
    """One model process that outgrows its limit."""
    (plan / f"1.genai_config.json.{fault}").touch()
    passed: list[float] = []
    kinds: list[str] = []

    class Watch(MemoryWatch):
        def excess(self) -> Excess | None:
            excess = super().excess()
            if excess is not None:
                passed.append(time.monotonic())
            return excess

    def watch(pid: int, limit: int | None) -> MemoryWatch:
        started = Watch.start(pid, limit) if groups else Watch.start(pid, limit, make_group=lambda limit_bytes: None)
        kinds.append("watch" if started.group is None else "control group")
        return started

    before = time.monotonic()
    command = child_command(sys.executable, "process.server", "genai")
    with tempfile.TemporaryDirectory() as empty:
        (Path(empty) / "genai_config.json").write_text("{}")
        with ModelProcess(lambda: Connection(command, 300.0, LIMIT_BYTES, watch)) as process:
            try:
                process.load(Path(empty))
            except ModelProcessFailed as error:
                gone = time.monotonic()
                assert error.excess is not None, error
                peak = error.excess.peak_bytes
    # It grows by 10 MB in at least 20 ms: so long is it since it passed the limit.
    since = (peak - LIMIT_BYTES) / 10e6 * 0.02 + (gone - (passed[0] if passed else gone)) if fault == "eat" else None
    return {"kind": kinds[0], "fault": fault, "peak_bytes": peak, "seconds": since, "whole": gone - before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--to", type=Path, default=Path("build/chaos/memory.json"))
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = f"{FAULTS}:{os.environ.get('PYTHONPATH', '')}"
    found = []
    with tempfile.TemporaryDirectory() as plan:
        os.environ["OLIVINE_FAULTS"] = plan
        for groups in (True, False):
            for fault in ("eat", "gulp"):
                found += [once(Path(plan), fault, groups) for _ in range(options.times)]
    options.to.parent.mkdir(parents=True, exist_ok=True)
    options.to.write_text(json.dumps({"limit_bytes": LIMIT_BYTES, "runs": found}))
    print(f"{len(found)} children outgrew their limit", file=sys.stderr)


if __name__ == "__main__":
    main()
