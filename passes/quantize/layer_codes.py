"""The codes of a graph's layers in a format: computed as they are written, or learned once and kept.

What learns from text takes seconds for a whole model, so it is done for all layers at once and kept in the cache:
candidates that differ in which layers they store in which format are put together from the same codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from olivine.passes.artifact import digest
from olivine.passes.calibrated import Calibrated
from olivine.passes.errors import PassRefused
from olivine.passes.graph import Linear, linears, load_graph
from olivine.passes.quantize.block_format import BlockFormat
from olivine.passes.quantize.gptq import Job, gptq_all
from olivine.passes.quantize.packing import BlockCodes

#: Raised whenever the same format and text would give other codes.
VERSION = 3
_LIBRARIES = ("numpy", "scipy", "torch")

Compute = Callable[[], BlockCodes]


def layer_codes(layers: Sequence[Linear], form: BlockFormat, calibrated: Calibrated | None = None) -> list[Compute]:
    """Of each layer, a function that gives its codes.

    Args:
        layers: linear layers of one graph.
        form: in which format.
        calibrated: what to learn from, where the format does.

    Raises:
        PassRefused: when the format learns from text and there is none, or a layer's input was not captured.
    """
    if not form.learns:
        return [partial(_now, layer, form) for layer in layers]
    if calibrated is None:
        raise PassRefused(f"{form.algorithm} learns from calibration text, and none was given")
    learned = _learned(form, calibrated)
    return [partial(_kept, learned / _file(layer), form, layer.shape[0]) for layer in layers]


def _now(layer: Linear, form: BlockFormat) -> BlockCodes:
    return form.quantize(layer.array())


def _learned(form: BlockFormat, calibrated: Calibrated) -> Path:
    """The folder with the codes of all linear layers of a graph."""
    libraries = {name: version(name) for name in _LIBRARIES}
    key = digest(["codes", VERSION, calibrated.graph.key, calibrated.key, form.params(), libraries])

    def write(to: Path) -> frozenset[str]:
        layers = list(linears(load_graph(calibrated.graph.onnx_path())))
        jobs = [
            Job(layer.array(), calibrated.hessian(layer), form.bits, form.block_size, form.symmetric)
            for layer in layers
        ]
        for layer, codes in zip(layers, gptq_all(jobs), strict=True):
            parts = {"codes": codes.codes, "scales": codes.scales}
            if codes.zero_points is not None:
                parts["zero_points"] = codes.zero_points
            np.savez(to / _file(layer), allow_pickle=False, **parts)
        return frozenset({"codes"})

    found = calibrated.cache.get(key) or calibrated.cache.put(key, write)
    return found.path


def _kept(file: Path, form: BlockFormat, features: int) -> BlockCodes:
    with np.load(file) as parts:
        return BlockCodes(parts["codes"], parts["scales"], parts.get("zero_points"), form.bits, features)


def _file(layer: Linear) -> str:
    return f"{layer.path.replace('/', '.')}.npz"
