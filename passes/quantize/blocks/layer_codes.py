"""The codes of a graph's layers in a format: computed as they are written, or learned once and kept.

What learns from text takes seconds for a whole model, so it is done for all layers at once (the head apart) and kept in
the cache as it is stored: candidates that differ in which layers have which format, or in which of them are merged, are
put together from the same codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from olivine.passes.errors import PassRefused
from olivine.passes.graph import HEAD, Linear, linears, load_graph
from olivine.passes.learn.calibrated import Calibrated
from olivine.passes.learn.merged_layers import Piece, pieces
from olivine.passes.quantize.blocks.block_format import BlockFormat
from olivine.passes.quantize.blocks.blockwise import quantize_blocks
from olivine.passes.quantize.blocks.gptq import Job, gptq_all
from olivine.passes.quantize.blocks.packing import PackedCodes
from olivine.passes.store.digests import digest

#: Raised whenever the same format and text would give other codes.
VERSION = 5
_LIBRARIES = ("numpy", "scipy", "torch")

Compute = Callable[[], PackedCodes]


def layer_codes(layers: Sequence[Linear], form: BlockFormat, calibrated: Calibrated | None = None) -> list[Compute]:
    """Of each layer, a function that gives its codes.

    Args:
        layers: linear layers of one graph.
        form: the format.
        calibrated: results to learn from, where the format learns.

    Raises:
        PassRefused: when the format learns from text and there is none, or a layer's input was not captured.
    """
    if not form.learns:
        return [partial(_now, layer, form) for layer in layers]
    if calibrated is None:
        raise PassRefused(f"{form.algorithm} learns from calibration text, and none was given")
    learned = _Learned(form, calibrated)
    return [partial(learned.read, learned.files(layer)) for layer in layers]


def _now(layer: Linear, form: BlockFormat) -> PackedCodes:
    return quantize_blocks(layer.array(), form.bits, form.block_size, form.algorithm, form.symmetric).packed()


@dataclass(frozen=True)
class _Learned:
    """The codes of all linear layers of a model in one format, learned when they are first asked for."""

    form: BlockFormat
    calibrated: Calibrated

    def files(self, layer: Linear) -> list[tuple[Path, Piece]]:
        """The files that hold a layer's codes, and which output features of each are its own.

        Raises:
            PassRefused: when the graph that was measured has no such layer.
        """
        made_of = pieces(layer.path, self.calibrated.sizes, self.calibrated.measured_sizes)
        if made_of is None:
            raise PassRefused(f"calibration captured nothing of what {layer.path} reads")
        return [((self._head if piece.path == HEAD else self._layers) / _file(piece.path), piece) for piece in made_of]

    @cached_property
    def _head(self) -> Path:
        return self._folder(head=True)

    @cached_property
    def _layers(self) -> Path:
        return self._folder(head=False)

    def read(self, files: Sequence[tuple[Path, Piece]]) -> PackedCodes:
        """The codes in these files."""
        parts = []
        for file, piece in files:
            with np.load(file) as arrays:
                own = slice(piece.start, piece.stop)
                zeros = arrays["zero_points"][own] if "zero_points" in arrays else None
                parts.append(PackedCodes(arrays["codes"][own], arrays["scales"][own], zeros))
        return PackedCodes.side_by_side(parts)

    def _folder(self, head: bool) -> Path:
        """The folder with the codes of the head, or of all other layers."""
        about = self.calibrated
        libraries = {name: version(name) for name in _LIBRARIES}
        key = digest(["codes", VERSION, about.measured_key, about.key, self.form.params(), head, libraries])
        return (about.cache.get(key) or about.cache.put(key, partial(self._write, head))).path

    def _write(self, head: bool, to: Path) -> frozenset[str]:
        form, graph = self.form, load_graph(self.calibrated.measured.onnx_path())
        layers = [layer for layer in linears(graph) if (layer.path == HEAD) == head]
        jobs = [
            Job(layer.array(), self.calibrated.hessian(layer), form.bits, form.block_size, form.symmetric, form.damping)
            for layer in layers
        ]
        for layer, codes in zip(layers, gptq_all(jobs), strict=True):
            packed = codes.packed()
            parts = {"codes": packed.codes, "scales": packed.scales}
            if packed.zero_points is not None:
                parts["zero_points"] = packed.zero_points
            np.savez(to / _file(layer.path), allow_pickle=False, **parts)
        return frozenset({"codes"})


def _file(path: str) -> str:
    return f"{path.replace('/', '.')}.npz"
