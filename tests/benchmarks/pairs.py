"""Pairs of models whose speedup is known, and one measurement of such a pair.

The float base of the demo model stands beside its own copy (a speedup of 1), and beside models with some layers
more. The models are built once and kept in the cache folder.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
from campaign import Row
from safetensors.numpy import load_file, save_file

from olivine.evaluators.arm import Arm
from olivine.evaluators.latency import PairedLatency
from olivine.evaluators.paired import decode_speedup, effective, prefill_speedup
from olivine.evaluators.turns import Readings, Visits
from olivine.passes.artifact import GENAI_CONFIG
from olivine.passes.cache import Cache, cache_root, scratch_folder
from olivine.passes.pipeline import build
from olivine.passes.recipe import compose
from olivine.passes.source import resolve

MODEL = "demo:smollm2-135m-instruct"
#: Layers added to the model's 30. A layer holds 2.6 % of the weights that a token reads (the head included), so these
#: are planted differences of 2.6, 5.3 and 10.5 %, and a little more where the head takes less than its share.
MORE_LAYERS = (1, 2, 4)
#: What tells the weights of an added layer from those that it copies: of equal weights ONNX Runtime keeps one.
STRANGER = 1e-3
BASE, COPY = "base", "copy"
SPEEDUPS = ("tpot_speedup", "ttft_speedup")
#: Narrower than any measurement gets: the time ends it.
NEVER = 1e-6


def models(threads: int) -> Path:
    """The folder with ``base``, ``copy`` and ``deeper-1``, ``-2`` and ``-4``, all set to this many threads."""
    home = cache_root() / "benchmarks" / "pairs"
    home.mkdir(parents=True, exist_ok=True)
    source = resolve(MODEL)
    with scratch_folder("pairs") as scratch:
        cache = Cache(scratch / "cache")
        if not (home / BASE).exists():
            _keep(build(source, compose({}), cache).artifact.path, home / BASE)
        for more in MORE_LAYERS:
            if not (home / deeper(more)).exists():
                if not (scratch / "checkpoint").exists():
                    (scratch / "checkpoint").mkdir()
                    source.materialize(scratch / "checkpoint")
                made = add_layers(scratch / "checkpoint", more, scratch / f"checkpoint-{more}")
                _keep(build(resolve(str(made)), compose({}), cache).artifact.path, home / deeper(more))
                shutil.rmtree(made)
    if not (home / COPY).exists():
        _keep(home / BASE, home / COPY)
    for folder in (BASE, COPY, *map(deeper, MORE_LAYERS)):
        _set_threads(home / folder / GENAI_CONFIG, threads)
    return home


def deeper(more: int) -> str:
    """Name of the folder of the model with so many layers more."""
    return f"deeper-{more}"


def add_layers(checkpoint: Path, more: int, to: Path) -> Path:
    """The checkpoint with nearly its last layer ``more`` times more."""
    config = json.loads((checkpoint / "config.json").read_text())
    layers = config["num_hidden_layers"]
    config["num_hidden_layers"] = layers + more
    if "layer_types" in config:
        config["layer_types"] = config["layer_types"] + config["layer_types"][-1:] * more
    weights = {k: v for file in sorted(checkpoint.glob("*.safetensors")) for k, v in load_file(file).items()}
    last = f"model.layers.{layers - 1}."
    own = {name: value for name, value in weights.items() if name.startswith(last)}
    for number in range(layers, layers + more):
        scale = np.float32(1 + STRANGER * (number - layers + 1))
        weights |= {name.replace(last, f"model.layers.{number}."): scale * value for name, value in own.items()}
    shutil.copytree(checkpoint, to, ignore=shutil.ignore_patterns("*.safetensors*"))
    (to / "config.json").write_text(json.dumps(config))
    save_file(weights, to / "model.safetensors", metadata={"format": "pt"})
    return to


def timed(candidate: Path, base: Path, seconds: float, seed: int) -> Row:
    """One measurement in fresh processes: its speedups (:func:`speedups`) and every sample."""
    started, load = time.time(), os.getloadavg()[0]
    with Arm.open(base) as reference, Arm.open(candidate) as arm:
        latency = PairedLatency(half_width=NEVER, max_seconds=seconds, seed=seed)
        protocol = {m.metric: m for m in latency.evaluate(arm, reference)}["tpot_ms"].protocol
        threads = arm.threads
    told = ("foreign_cores", "stolen_share", "priority", "rounds", "processes", "cold_steps", "samples")
    row = {
        "started": round(started),
        "took": round(time.time() - started),
        "seconds": seconds,
        "threads": threads,
        "load": round(load, 2),
        **{name: protocol[name] for name in told},
    }
    return {**row, **speedups(row)}


def speedups(row: Row) -> dict[str, list[float]]:
    """Name -> value, low and high, by the present estimator from a row's samples."""
    samples, processes = row["samples"], effective(row["samples"]["process"])
    base, own = (
        Readings(Visits(1, row["cold_steps"], 0), ttft_ms=samples[f"{arm}ttft_ms"], step_ms=samples[f"{arm}step_ms"])
        for arm in ("base_", "")
    )
    found = {
        "tpot_speedup": decode_speedup(base.tpot_ms(), own.tpot_ms(), processes, row["threads"] == 1),
        "ttft_speedup": prefill_speedup(np.array(base.ttft_ms), np.array(own.ttft_ms), processes),
    }
    ratios = {name: interval.exp() for name, interval in found.items()}
    return {name: [round(x, 5) for x in (ratio.value, ratio.low, ratio.high)] for name, ratio in ratios.items()}


def _keep(folder: Path, to: Path) -> None:
    """Copy a folder so that it is whole or not there."""
    partial = to.with_name(f"{to.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(folder, partial)
    partial.rename(to)


def _set_threads(path: Path, threads: int) -> None:
    config = json.loads(path.read_text())
    config["model"]["decoder"].setdefault("session_options", {})["intra_op_num_threads"] = threads
    path.write_text(json.dumps(config, indent=4))
