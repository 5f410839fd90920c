"""From a plain source and a recipe to a cached folder: the source's graph, fused, quantized, with its session options.

Each step is cached under a hash of what goes into it. Every new graph has to load and give finite outputs.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from olivine.passes.artifact import ModelArtifact, digest, link_or_copy
from olivine.passes.base import PassResult
from olivine.passes.cpu import int8_sums_saturate
from olivine.passes.errors import BuildFailed, PassRefused
from olivine.passes.export.check import ort_errors
from olivine.passes.graphs.catalog import PlainRecipe
from olivine.passes.graphs.fuse import fuse
from olivine.passes.graphs.graph_inputs import graph_inputs, open_dims, synthetic
from olivine.passes.graphs.quantize import dynamic_int8, read_feeds, static_int8, weight_only
from olivine.passes.graphs.source import GRAPH, GraphSource, save_named
from olivine.passes.pipeline import Built
from olivine.passes.store.cache import Cache

SESSION = "session.json"
#: Raised whenever the same parameters would give other bytes.
VERSION = 2
_INT8 = ("dynamic_int8", "static_int8")
_LIBRARIES = ("onnx", "onnxruntime", "onnx-ir")
#: Size of every open axis in the check of a new graph.
_CHECK_SIZE = 2


def build_plain(
    source: GraphSource,
    recipe: PlainRecipe,
    cache: Cache,
    sizes: Mapping[str, int] | None = None,
    calibrate: Path | None = None,
) -> Built:
    """Build a candidate, or take it from the cache.

    Args:
        source: the model.
        recipe: what to make of it.
        cache: where every step is kept.
        sizes: of the graph's open axes, for the check of new graphs.
        calibrate: file with the samples that static ranges are learned from.

    Raises:
        PassRefused: when a step does not apply to this graph.
        BuildFailed: when the result does not run, or gives outputs that are not finite.
        SourceError: when the source can't be read or exported.
    """
    key = digest(["plain", VERSION, source.key, {name: version(name) for name in _LIBRARIES}])
    artifact = cache.get(key) or cache.put(key, source.materialize)
    results = []
    for step in recipe.to_json():
        name, params = step["name"], step["params"]
        if name in _INT8:  # recipes of olivine 0.1.0's first days do not say it: this machine's value, in the key too
            params = {"reduce_range": int8_sums_saturate(), **params}
        parts = [artifact.key, name, params, source.architecture if name == "fuse" else ""]
        if name == "static_int8":
            parts.append(digest_of(calibrate))
        key, before = digest(parts), artifact
        started, found = time.perf_counter(), cache.get(key)
        work = _Work(source, before, name, params, sizes, calibrate)
        artifact = found or cache.put(key, work.write)
        results.append(PassResult(name, params, time.perf_counter() - started, found is not None))
    return Built(artifact, tuple(results))


def digest_of(samples: Path | None) -> str:
    """Identity of calibration samples, whatever their file is called."""
    if samples is None:
        raise PassRefused("static_int8 learns from calibration samples, and none were given")
    return digest(
        [[name, str(value.dtype), value.tolist()] for feed in read_feeds(samples) for name, value in feed.items()]
    )


@dataclass(frozen=True)
class _Work:
    """One step of a build."""

    source: GraphSource
    before: ModelArtifact
    name: str
    params: Mapping[str, Any]
    sizes: Mapping[str, int] | None
    calibrate: Path | None

    def write(self, to: Path) -> frozenset[str]:
        """Write what the step makes into the empty folder ``to``."""
        name, params, graph, made = self.name, self.params, self.before.path / GRAPH, to / GRAPH
        for file in self.before.files():
            target = to / file.relative_to(self.before.path)
            if file.name == GRAPH and name == "session_options":
                link_or_copy(file, target)
            elif file.name.startswith(GRAPH):
                if name == "session_options":
                    shutil.copyfile(file, target)  # onnx refuses to read weights that have a second link
            else:
                link_or_copy(file, target)
        if name == "session_options":
            (to / SESSION).write_text(json.dumps({"intra_op_num_threads": params["threads"]}), encoding="utf-8")
            return self.before.holds
        if name == "fuse":
            source = self.source
            fuse(graph, made, str(params["level"]), source.architecture, source.heads, source.hidden)
            save_named(onnx.load(made), made)
        elif name == "dynamic_int8":
            dynamic_int8(graph, made, params)
        elif name == "static_int8" and self.calibrate is not None:
            static_int8(graph, made, params, read_feeds(self.calibrate))
        elif name == "weight_only":
            weight_only(graph, made, params)
            save_named(onnx.load(made), made)
        else:
            raise PassRefused(f"unknown step '{name}'")
        check_graph(made, self.sizes)
        # What is quantized goes first when the cache is full: it is built again in seconds.
        return self.before.holds | (frozenset() if name == "fuse" else {"quantized"})


def check_graph(path: Path, sizes: Mapping[str, int] | None = None) -> None:
    """Run made-up inputs through a new graph.

    Raises:
        BuildFailed: when it does not load or run, or gives outputs that are not finite.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    inputs = graph_inputs(path)
    feed = synthetic(inputs, sizes or dict.fromkeys(open_dims(inputs), _CHECK_SIZE), np.random.default_rng(0))
    try:
        outputs = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, feed)
    except ort_errors() as error:
        raise BuildFailed(f"the graph does not run in ONNX Runtime: {error}") from error
    if not all(np.isfinite(output).all() for output in outputs if output.dtype.kind == "f"):
        raise BuildFailed("the graph gives outputs that are not finite")


def graph_bytes(folder: Path) -> int:
    """Bytes of a folder's graph and its external weights."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.name.startswith(GRAPH))
