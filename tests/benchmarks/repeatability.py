"""Paired latency against itself, and against differences that are known: how often its intervals tell the truth.

A run every so often, for an hour or more, whatever else the machine does meanwhile. In each cycle the base of the
demo model is timed against its own copy for 10 seconds, against a model with 1, 2 or 4 layers more for 20 seconds,
and in every third one against its copy for 30 seconds too. Rows are kept as they come; the page is made of them.

    python tests/benchmarks/repeatability.py --cycles 60 --every 90 --to results/repeatability.json
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from safetensors.numpy import load_file, save_file

from olivine.evaluators.arm import Arm
from olivine.evaluators.latency import PairedLatency
from olivine.passes.cache import Cache, cache_root
from olivine.passes.pipeline import build
from olivine.passes.recipe import compose
from olivine.passes.source import resolve
from olivine.search.environment import describe_environment

MODEL = "demo:smollm2-135m-instruct"
#: Layers added to the model's 30. A layer holds 2.2 % of the weights that a token reads (the head included).
MORE_LAYERS = (1, 2, 4)
SPEEDUPS = ("tpot_speedup", "ttft_speedup")


def deeper(checkpoint: Path, more: int, to: Path) -> Path:
    """The checkpoint with its last layer ``more`` times more."""
    config = json.loads((checkpoint / "config.json").read_text())
    layers = config["num_hidden_layers"]
    config["num_hidden_layers"] = layers + more
    if "layer_types" in config:
        config["layer_types"] = config["layer_types"] + config["layer_types"][-1:] * more
    weights = {k: v for file in sorted(checkpoint.glob("*.safetensors")) for k, v in load_file(file).items()}
    last = f"model.layers.{layers - 1}."
    for number in range(layers, layers + more):
        weights |= {k.replace(last, f"model.layers.{number}."): v for k, v in weights.items() if k.startswith(last)}
    shutil.copytree(checkpoint, to, ignore=shutil.ignore_patterns("*.safetensors*"))
    (to / "config.json").write_text(json.dumps(config))
    save_file(weights, to / "model.safetensors", metadata={"format": "pt"})
    return to


def timed(candidate: Path, base: Path, seconds: float, seed: int) -> dict[str, Any]:
    """One measurement in fresh processes: speedups of ``candidate`` over ``base`` with their ends."""
    started, load = time.time(), os.getloadavg()[0]
    with Arm.open(base) as reference, Arm.open(candidate) as arm:
        found = {
            m.metric: m for m in PairedLatency(half_width=1e-6, max_seconds=seconds, seed=seed).evaluate(arm, reference)
        }
    protocol = found["tpot_speedup"].protocol
    return {
        "started": round(started),
        "seconds": seconds,
        "load": round(load, 2),
        "foreign_cores": protocol["foreign_cores"],
        "priority": protocol["priority"],
        "rounds": protocol["rounds"],
        **{name: [round(x, 4) for x in (found[name].value, found[name].low, found[name].high)] for name in SPEEDUPS},
    }


def page(rows: Sequence[dict[str, Any]]) -> str:
    """What the rows say, as Markdown tables."""
    machine = describe_environment()
    span = (rows[-1]["started"] - rows[0]["started"]) / 60
    lines = [
        "# Repeatability of paired latency",
        "",
        f"`tests/benchmarks/repeatability.py` on {machine['cpu']}, {machine['cores']} cores: {len(rows)} runs in "
        f"{span:.0f} minutes, at a load average of {min(r['load'] for r in rows):.1f} to "
        f"{max(r['load'] for r in rows):.1f} before each. fp32, prompt of 128 tokens.",
        "",
        "| against | s a pair | runs | metric | median value | median half-width | covers 1 | faster | slower |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for against, seconds in sorted({(r["against"], r["seconds"]) for r in rows}):
        chosen = [r for r in rows if (r["against"], r["seconds"]) == (against, seconds)]
        for name in SPEEDUPS:
            ends = [r[name] for r in chosen]
            width = median((high / low - 1) / 2 for _, low, high in ends)
            faster, slower = (sum(e[1] > 1 for e in ends), sum(e[2] < 1 for e in ends))
            cells = [against, f"{seconds:g}", len(chosen), name, f"{median(e[0] for e in ends):.4f}", f"{width:.2%}"]
            lines.append("| " + " | ".join(map(str, [*cells, len(ends) - faster - slower, faster, slower])) + " |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure in cycles; write the rows after each."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--cycles", type=int, default=60)
    arguments.add_argument("--every", type=float, default=90.0, help="seconds from one cycle's start to the next")
    arguments.add_argument("--to", type=Path, required=True)
    options = arguments.parse_args()
    source = resolve(MODEL)
    base = build(source, compose({}), Cache(cache_root())).artifact.path
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=cache_root()) as folder:
        scratch = Path(folder)
        models = {"its copy": shutil.copytree(base, scratch / "copy")}
        (scratch / "checkpoint").mkdir()
        source.materialize(scratch / "checkpoint")
        for more in MORE_LAYERS:
            checkpoint = deeper(scratch / "checkpoint", more, scratch / f"checkpoint-{more}")
            name = f"{more} more layer{'s' if more > 1 else ''}"
            models[name] = build(resolve(str(checkpoint)), compose({}), Cache(scratch / "cache")).artifact.path
            shutil.rmtree(checkpoint)
        planted = list(models)[1:]
        started = time.monotonic()
        for cycle in range(options.cycles):
            time.sleep(max(0.0, started + cycle * options.every - time.monotonic()))
            pairs = [("its copy", 10.0), (planted[cycle % len(planted)], 20.0)]
            for against, seconds in pairs + [("its copy", 30.0)] * (cycle % 3 == 2):
                rows.append({"against": against} | timed(models[against], base, seconds, seed=cycle))
                options.to.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")
                options.to.with_suffix(".md").write_text(page(rows))


if __name__ == "__main__":
    main()
