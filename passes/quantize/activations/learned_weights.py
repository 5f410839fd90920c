"""Weights beside int8 activations whose rounding is learned: by GPTQ, with one scale an output channel.

A step of int8 is small, and rounding to nearest still costs a third of what dynamic int8 loses: what one weight errs by
can be made good by those after it (``blocks/gptq.py``). The codes of all layers are learned at once and kept in the
cache: candidates that differ in which layers are dynamic, or in which of them are merged, are put together from them.

Loud channels of what down_proj reads, which make the range of each token, are divided beforehand
(``quieting_factors``): its weights are learned with these factors in them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from olivine.passes.cpu import available_cores
from olivine.passes.errors import PassRefused
from olivine.passes.graph import HEAD, Linear, linears, load_graph
from olivine.passes.learn.calibrated import Calibrated
from olivine.passes.learn.merged_layers import Piece, pieces
from olivine.passes.quantize.activations.integer_matmul import ChannelCodes, channel_scales
from olivine.passes.quantize.blocks.gptq import feedback, round_channels
from olivine.passes.quantize.smoothing import quieting_factors
from olivine.passes.store.digests import digest

#: Raised whenever the same text would give other codes.
VERSION = 1
_LIBRARIES = ("numpy", "scipy")


def learned_codes(layers: Sequence[Linear], top: int, calibrated: Calibrated) -> dict[str, ChannelCodes]:
    """Path of each layer -> its codes.

    Args:
        layers: linear layers of one graph.
        top: the largest code.
        calibrated: results to learn from.

    Raises:
        PassRefused: when the graph that was measured has no such layer.
    """
    learned = _Learned(top, calibrated)
    made_of = {layer.path: learned.pieces(layer) for layer in layers}
    return {
        path: ChannelCodes(partial(learned.read, "codes", parts), partial(learned.read, "scales", parts))
        for path, parts in made_of.items()
    }


def quieted(layers: Sequence[Linear], calibrated: Calibrated) -> dict[str, np.ndarray]:
    """Name of each activation that is a gated product -> what its channels are divided by, float32 [K]."""
    return {layer.reads: quieting_factors(calibrated.ranges(layer)) for layer in layers if layer.reads_product}


@dataclass(frozen=True)
class _Learned:
    """The codes of all linear layers but the head, learned when they are first asked for."""

    top: int
    calibrated: Calibrated

    def pieces(self, layer: Linear) -> tuple[Piece, ...]:
        """The output features of the measured graph that are a layer's.

        Raises:
            PassRefused: when that graph has none such.
        """
        made_of = pieces(layer.path, self.calibrated.sizes, self.calibrated.measured_sizes)
        if made_of is None:
            raise PassRefused(f"calibration captured nothing of what {layer.path} reads")
        return made_of

    def read(self, name: str, made_of: Sequence[Piece]) -> np.ndarray:
        """The ``codes`` or ``scales`` of these output features."""
        parts = []
        for piece in made_of:
            with np.load(self._folder / _file(piece.path)) as arrays:
                parts.append(arrays[name][..., piece.start : piece.stop])
        return np.concatenate(parts, axis=-1)

    @cached_property
    def _folder(self) -> Path:
        about = self.calibrated
        libraries = {name: version(name) for name in _LIBRARIES}
        key = digest(["channel codes", VERSION, about.measured_key, about.key, self.top, libraries])
        return (about.cache.get(key) or about.cache.put(key, self._write)).path

    def _write(self, to: Path) -> frozenset[str]:
        from threadpoolctl import threadpool_limits

        graph = load_graph(self.calibrated.measured.onnx_path())
        layers = [layer for layer in linears(graph) if layer.path != HEAD]
        factors = quieted(layers, self.calibrated)
        readers: dict[str, list[Linear]] = {}
        for layer in layers:
            readers.setdefault(layer.reads, []).append(layer)
        self.calibrated.hessians  # noqa: B018 - measured once, before threads ask for them
        with threadpool_limits(1), ThreadPoolExecutor(available_cores()) as pool:
            deque(pool.map(lambda name: self._learn(readers[name], factors.get(name), to), readers), maxlen=0)
        return frozenset({"channel codes"})

    def _learn(self, layers: Sequence[Linear], by: np.ndarray | None, to: Path) -> None:
        """Write the codes of layers that read the same, whose channels are divided by factors [K]."""
        hessian = self.calibrated.hessian(layers[0])
        order, moves, _ = feedback(hessian if by is None else hessian / np.outer(by, by))
        for layer in layers:
            weight = layer.array().astype(np.float32, copy=False)
            if by is not None:
                weight = weight * by[:, None]
            scales = channel_scales(weight, self.top)
            codes = round_channels(weight, order, moves, scales, self.top)
            np.savez(to / _file(layer.path), allow_pickle=False, codes=codes, scales=scales)


def _file(path: str) -> str:
    return f"{path.replace('/', '.')}.npz"
