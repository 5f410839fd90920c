"""Calibration: second moments and ranges of the inputs of a float model's linear layers on some text.

Text enters as windows of token ids, stored in the cache under a hash of themselves. One run of the float graph over
them gives the Hessian ``X^T X / n`` of every distinct input X of a linear layer, the range of each of its channels,
and of each of its rows; they are kept in the cache too, and serve every candidate built from this graph.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from olivine.passes.artifact import ModelArtifact
from olivine.passes.errors import BuildFailed, PassRefused
from olivine.passes.graph import linears, load_graph
from olivine.passes.learn.graph_parts import graph_run
from olivine.passes.store.cache import Cache
from olivine.passes.store.digests import digest

if TYPE_CHECKING:
    pass

#: Raised whenever the same graph and tokens would give other Hessians.
VERSION = 4
#: Hessians accumulated in one run over the text; a larger model is run several times, each up to a later layer.
GROUP_BYTES = 1_000_000_000
_LIBRARIES = ("numpy", "onnxruntime")
_TOKENS, _INDEX, _TOKENS_SUFFIX = "tokens.npy", "index.json", ".tokens.npy"


@dataclass(frozen=True)
class Hessians:
    """Second moments and ranges of what linear layers read.

    Attributes:
        folder: one .npy file an activation, and an index.
        key: hash of everything that they depend on.
        files: name of an activation in the float graph -> its file.
    """

    folder: Path
    key: str
    files: dict[str, str]
    _open: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def of(self, activation: str | None) -> np.ndarray | None:
        """``X^T X / n`` of an activation X [n, K], float32 [K, K], memory-mapped; None where it was not captured."""
        file = self.files.get(activation or "")
        if file is not None and file not in self._open:
            self._open[file] = np.load(self.folder / file, mmap_mode="r")
        return None if file is None else self._open[file]

    def ranges(self, activation: str | None) -> np.ndarray | None:
        """Lowest and highest value of each channel in each window, float32 [2, windows, K]; None as :meth:`of`."""
        file = self.files.get(activation or "")
        return None if file is None else np.load(self.folder / _ranges_file(file))

    def tokens(self, activation: str | None) -> np.ndarray | None:
        """Largest magnitude and mean square of each token's values, float32 [2, tokens]; None as :meth:`of`."""
        file = self.files.get(activation or "")
        return None if file is None else np.load(self.folder / _tokens_file(file))


def store_tokens(cache: Cache, tokens: np.ndarray) -> str:
    """Keep windows of calibration text, and return the key that a build names them by.

    Args:
        cache: keeps them.
        tokens: token ids [windows, length].
    """
    tokens = np.ascontiguousarray(tokens, dtype=np.int32)
    key = digest(["calibration tokens", tokens.shape, tokens.tobytes().hex()])

    def write(to: Path) -> frozenset[str]:
        np.save(to / _TOKENS, tokens)
        return frozenset({"tokens"})

    return cache.put(key, write).key


def load_tokens(cache: Cache, key: str) -> np.ndarray:
    """The windows stored under ``key``, int32 [windows, length].

    Raises:
        PassRefused: when the cache does not have them (any more).
    """
    entry = cache.get(key)
    if entry is None:
        raise PassRefused(f"the calibration text {key} is not in the cache {cache.root}; calibrate again")
    tokens: np.ndarray = np.load(entry.path / _TOKENS)
    return tokens


def hessians_key(artifact_key: str, calibration: str) -> str:
    """Hash of everything that the Hessians of a float graph depend on."""
    return digest(["hessians", VERSION, artifact_key, calibration, {name: version(name) for name in _LIBRARIES}])


def capture_hessians(
    artifact: ModelArtifact, calibration: str, cache: Cache, group_bytes: int = GROUP_BYTES
) -> Hessians:
    """Run calibration text through a float graph, or take the Hessians from the cache.

    Args:
        artifact: the float graph.
        calibration: key of the windows, as :func:`store_tokens` gives it.
        cache: keeps windows and Hessians.
        group_bytes: size of the Hessians that are measured in one run.

    Raises:
        PassRefused: when neither the Hessians nor the windows are in the cache.
        BuildFailed: when the graph does not run, or an activation is not finite.
    """
    key = hessians_key(artifact.key, calibration)

    def write(to: Path) -> frozenset[str]:
        _capture(artifact, load_tokens(cache, calibration), to, group_bytes)
        return frozenset({"hessians"})

    entry = cache.get(key) or cache.put(key, write)
    if not any(entry.path.glob(f"*{_TOKENS_SUFFIX}")):  # of version 0.1.0, whose key names what was built from it
        with_tokens = digest([key, "tokens"])
        entry = cache.get(with_tokens) or cache.put(with_tokens, write)
    index = json.loads((entry.path / _INDEX).read_text())
    return Hessians(entry.path, key, index["files"])


def _capture(artifact: ModelArtifact, tokens: np.ndarray, to: Path, group_bytes: int) -> None:
    graph = artifact.onnx_path()
    layers = list(linears(load_graph(graph)))
    sizes = {layer.reads: layer.shape[0] for layer in layers}
    head_size = int(artifact.genai_config()["model"]["decoder"]["head_size"])
    files = {name: f"{index:04d}.npy" for index, name in enumerate(sizes)}
    groups = list(_groups(sizes, group_bytes))
    with graph_run(graph, tokens, head_size, to.parent) as run:
        for group, windows in zip(groups, run.activations(groups), strict=True):
            for name, (total, ranges, of_tokens) in _moments(group, windows).items():
                if not np.isfinite(total).all():
                    raise BuildFailed(f"calibration: '{name}' is not finite on the calibration text")
                total /= tokens.size
                np.save(to / files[name], total)
                np.save(to / _ranges_file(files[name]), ranges)
                np.save(to / _tokens_file(files[name]), of_tokens)
    (to / _INDEX).write_text(json.dumps({"files": files}, indent=1))


def _ranges_file(file: str) -> str:
    return file.replace(".npy", ".ranges.npy")


def _tokens_file(file: str) -> str:
    return file.replace(".npy", _TOKENS_SUFFIX)


def _groups(sizes: Mapping[str, int], group_bytes: int) -> Iterator[list[str]]:
    """Activations in graph order, as many at a time as have Hessians of ``group_bytes`` together."""
    group: list[str] = []
    group_size = 0
    for name, size in sizes.items():
        need = size * size * np.dtype(np.float32).itemsize
        if group and group_size + need > group_bytes:
            yield group
            group, group_size = [], 0
        group.append(name)
        group_size += need
    if group:
        yield group


def _moments(
    activations: Sequence[str], windows: Iterable[Sequence[np.ndarray]]
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of each activation: ``X^T X`` [K, K], its ranges [2, windows, K] and its tokens [2, tokens], float32."""
    sums: dict[str, np.ndarray] = {}
    ranges: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in activations}
    of_tokens: dict[str, list[np.ndarray]] = {name: [] for name in activations}
    for window in windows:
        for name, values in zip(activations, window, strict=True):
            x = values.reshape(-1, values.shape[-1]).astype(np.float32, copy=False)
            product = x.T @ x  # numpy computes one triangle of it
            sums[name] = product if name not in sums else np.add(sums[name], product, out=sums[name])
            ranges[name].append((x.min(axis=0), x.max(axis=0)))
            of_tokens[name].append(np.stack([np.abs(x).max(axis=1), np.square(x).mean(axis=1)]))
    return {name: (total, np.stack(ranges[name], axis=1), np.hstack(of_tokens[name])) for name, total in sums.items()}
