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

from olivine.evaluators.latency.decoder import PairedDecoderLatency
from olivine.evaluators.latency.decoder_rounds import Readings, Visits
from olivine.evaluators.latency.speedup import (
    decode_speedup,
    kish_effective_count,
    prefill_speedup,
    with_noisy_neighbours,
)
from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.stats import Interval
from olivine.passes.artifact import GENAI_CONFIG
from olivine.passes.catalog import LANGUAGE
from olivine.passes.pipeline import build
from olivine.passes.sources.source import resolve
from olivine.passes.store.cache import Cache, cache_root, scratch_folder

MODEL = "demo:smollm2-135m-instruct"
#: The model's layers.
LAYERS = 30
#: Layers kept of the model, and layers added to them. The head holds as much as 8 layers of the weights that a token
#: reads, so these are planted differences of 2.6, 5.3, 10.5 and 3.1 %, and a little more where the head takes less time
#: than its share.
PLANTED = ((LAYERS, 1), (LAYERS, 2), (LAYERS, 4), (24, 1))
#: What tells the weights of an added layer from those that it copies: of equal weights ONNX Runtime keeps one.
STRANGER = 1e-3
BASE, COPY = "base", "copy"
SPEEDUPS = ("tpot_speedup", "ttft_speedup")
#: Narrower than any measurement gets: the time ends it.
NEVER = 1e-6


def models(threads: int) -> Path:
    """The folder with ``base``, ``copy`` and the models of :func:`folder_name`, all set to this many threads."""
    home = cache_root() / "benchmarks" / "pairs"
    home.mkdir(parents=True, exist_ok=True)
    source = resolve(MODEL)
    shorter = [(kept, 0) for kept, _ in PLANTED if kept != LAYERS]
    wanted = [*PLANTED, *shorter]
    with scratch_folder("pairs") as scratch:
        cache = Cache(scratch / "cache")
        if not (home / BASE).exists():
            _keep(build(source, LANGUAGE.compose({}), cache).artifact.path, home / BASE)
        for kept, more in wanted:
            if not (home / folder_name(kept, more)).exists():
                if not (scratch / "checkpoint").exists():
                    (scratch / "checkpoint").mkdir()
                    source.materialize(scratch / "checkpoint")
                made = with_layers(scratch / "checkpoint", kept, more, scratch / "changed")
                _keep(
                    build(resolve(str(made)), LANGUAGE.compose({}), cache).artifact.path, home / folder_name(kept, more)
                )
                shutil.rmtree(made)
    if not (home / COPY).exists():
        _keep(home / BASE, home / COPY)
    for folder in (BASE, COPY, *(folder_name(*layers) for layers in wanted)):
        _set_threads(home / folder / GENAI_CONFIG, threads)
    return home


def folder_name(kept: int, more: int) -> str:
    """Name of the folder of the model with so many of its layers, and so many more."""
    if (kept, more) == (LAYERS, 0):
        return BASE
    return f"deeper-{more}" if kept == LAYERS else f"layers-{kept}-deeper-{more}"


def with_layers(checkpoint: Path, kept: int, more: int, to: Path) -> Path:
    """The checkpoint with its first ``kept`` layers, and nearly the last of these ``more`` times more."""
    config = json.loads((checkpoint / "config.json").read_text())
    config["num_hidden_layers"] = kept + more
    if "layer_types" in config:
        types = config["layer_types"][:kept]
        config["layer_types"] = types + types[-1:] * more
    read = {k: v for file in sorted(checkpoint.glob("*.safetensors")) for k, v in load_file(file).items()}
    weights = {name: value for name, value in read.items() if _layer(name) < kept}
    last = f"model.layers.{kept - 1}."
    own = {name: value for name, value in weights.items() if name.startswith(last)}
    for number in range(kept, kept + more):
        scale = np.float32(1 + STRANGER * (number - kept + 1))
        weights |= {name.replace(last, f"model.layers.{number}."): scale * value for name, value in own.items()}
    shutil.copytree(checkpoint, to, ignore=shutil.ignore_patterns("*.safetensors*"))
    (to / "config.json").write_text(json.dumps(config))
    save_file(weights, to / "model.safetensors", metadata={"format": "pt"})
    return to


def _layer(name: str) -> int:
    """Number of the layer that a weight belongs to; -1 for none."""
    return int(name.split(".")[2]) if name.startswith("model.layers.") else -1


def timed(candidate: Path, base: Path, seconds: float, seed: int) -> Row:
    """One measurement in fresh processes: its speedups (:func:`speedups`) and every sample."""
    started, load = time.time(), os.getloadavg()[0]
    with ModelProcess.open(base) as reference, ModelProcess.open(candidate) as process:
        latency = PairedDecoderLatency(half_width=NEVER, max_seconds=seconds, seed=seed)
        protocol = {m.metric: m for m in latency.evaluate(process, reference)}["tpot_ms"].protocol
        threads = process.threads
    told = ("foreign_cores", "stolen_share", "priority", "rounds", "processes", "cold_steps", "samples")
    row = {
        "started": round(started),
        "took": round(time.time() - started),
        "seconds": seconds,
        "threads": threads,
        "load": round(load, 2),
        **{name: protocol[name] for name in told},
        "core_distance": protocol.get("core_distance"),
    }
    return {**row, **speedups(row)}


def speedups(row: Row) -> dict[str, list[float]]:
    """Name -> value, low and high, by the present estimator from a row's samples."""
    ratios = {name: with_noisy_neighbours(interval).exp() for name, interval in log_speedups(row).items()}
    return {name: [round(x, 5) for x in (ratio.value, ratio.low, ratio.high)] for name, ratio in ratios.items()}


def log_speedups(row: Row) -> dict[str, Interval]:
    """Name -> log speedup by the present estimator from a row's samples, without what neighbours do."""
    samples, processes = row["samples"], kish_effective_count(row["samples"]["process"])
    base, own = (
        Readings(Visits(1, row["cold_steps"], 0), ttft_ms=samples[f"{side}ttft_ms"], step_ms=samples[f"{side}step_ms"])
        for side in ("base_", "")
    )
    return {
        "tpot_speedup": decode_speedup(base.tpot_ms(), own.tpot_ms(), processes),
        "ttft_speedup": prefill_speedup(np.array(base.ttft_ms), np.array(own.ttft_ms), processes),
    }


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
