"""Steps of a key-value cache in integers, learned from what a float model puts into its cache on calibration text.

The kernel rounds each channel of each head to a step of its own, the same at every position. Keys are cached after
their rotary embedding, which turns pairs of channels further with every position: both channels of a pair get one step,
that of the pair's length, which no position changes. The raw values of a short text would give slow pairs a step that
cuts off what they reach in a long one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from olivine.passes.artifact import ModelArtifact
from olivine.passes.errors import BuildFailed, PassRefused
from olivine.passes.learn.calibration import load_tokens
from olivine.passes.learn.graph_parts import graph_run
from olivine.passes.learn.turned_channels import turned_channels
from olivine.passes.store.cache import Cache
from olivine.passes.store.digests import digest

Float32 = npt.NDArray[np.float32]

ATTENTION = "GroupQueryAttention"
#: Bits of a cache -> the largest magnitude of its codes: -128 .. 127 and -8 .. 7.
LIMITS = {8: 128, 4: 8}
#: Raised whenever the same graph and tokens would give other steps.
VERSION = 2
#: Tokens that are kept of all windows, evenly spread, to choose the steps of four bits by.
SAMPLES = 1024
#: Shares of a channel's range that are tried as the range of its codes.
SHARES = np.linspace(0.3, 1.0, 15)
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)
_LEAST = 1e-6
_INDEX = "steps.npz"


@dataclass(frozen=True)
class Attention:
    """The cache of one attention node, as far as its steps depend on it.

    Attributes:
        key: name of the output with its keys.
        value: name of the output with its values.
        dtype: of both.
        turned: channels of a head that the rotary embedding turns; 0 in layers without one.
        interleaved: whether it pairs neighbouring channels; else channels half of ``turned`` apart.
    """

    key: str
    value: str
    dtype: ir.DataType
    turned: int
    interleaved: bool

    @classmethod
    def of(cls, node: ir.Node) -> Attention:
        """Read a GroupQueryAttention node.

        Raises:
            PassRefused: when it keeps no cache, or one that is no float, or the channels that are turned are not known.
        """
        key, value = (*node.outputs[1:3], None, None)[:2]
        if key is None or value is None or not key.name or not value.name:
            raise PassRefused(f"the cache can't be quantized: {node.name} keeps none of its own")
        if key.dtype not in _FLOATS or value.dtype != key.dtype:
            raise PassRefused(f"the cache can't be quantized: '{key.name}' is {key.dtype} already")
        return cls(key.name, value.name, key.dtype, *turned_channels(node))


@dataclass(frozen=True)
class CacheScales:
    """Steps of every cache output of a graph.

    Attributes:
        file: .npz with an array an output and width.
    """

    file: Path

    def of(self, output: str, bits: int) -> Float32:
        """Steps of the channels of a cache output, float32 [heads, channels].

        Raises:
            PassRefused: when the output was not measured.
        """
        with np.load(self.file) as steps:
            if (name := f"{output}/{bits}") not in steps:
                raise PassRefused(f"calibration captured nothing of the cache '{output}'")
            found: Float32 = steps[name]
            return found


def capture_cache_scales(artifact: ModelArtifact, calibration: str, cache: Cache) -> CacheScales:
    """Run calibration text through a float graph, or take the steps of its cache from the cache of builds.

    Args:
        artifact: the float graph.
        calibration: key of the windows, as :func:`olivine.passes.learn.calibration.store_tokens` gives it.
        cache: keeps windows and steps.

    Raises:
        PassRefused: when neither steps nor windows are in the cache, or the graph's attention keeps no cache.
        BuildFailed: when the graph does not run, or what it caches is not finite.
    """
    libraries = {name: version(name) for name in ("numpy", "onnxruntime")}
    key = digest(["cache scales", VERSION, artifact.key, calibration, libraries])

    def write(to: Path) -> frozenset[str]:
        np.savez(to / _INDEX, **_steps(artifact, load_tokens(cache, calibration), to), allow_pickle=False)
        return frozenset({"cache_scales"})

    entry = cache.get(key) or cache.put(key, write)
    return CacheScales(entry.path / _INDEX)


def _steps(artifact: ModelArtifact, tokens: np.ndarray, to: Path) -> dict[str, Float32]:
    graph = artifact.onnx_path()
    nodes = [Attention.of(node) for node in ir.load(graph).graph if node.op_type == ATTENTION]
    head_size = int(artifact.genai_config()["model"]["decoder"]["head_size"])
    names = [name for node in nodes for name in (node.key, node.value)]
    with graph_run(graph, tokens, head_size, to.parent) as run:
        (windows,) = run.activations([names])
        ranges, samples = _measured(nodes, windows, max(1, tokens.size // SAMPLES))
    return dict(_chosen(nodes, ranges, samples))


def _measured(
    nodes: Sequence[Attention], windows: Iterable[Sequence[np.ndarray]], stride: int
) -> tuple[dict[str, Float32], dict[str, Float32]]:
    """Of each cache output: the range of its channels [heads, channels], and samples [heads, tokens, channels].

    Args:
        nodes: whose outputs the windows have, keys before values.
        windows: of the outputs, [1, heads, tokens, channels] each.
        stride: of the tokens that are samples.
    """
    names = [name for node in nodes for name in (node.key, node.value)]
    keys = {node.key: node for node in nodes}
    ranges: dict[str, Float32] = {}
    samples: dict[str, list[Float32]] = {name: [] for name in names}
    for window in windows:
        for name, cached in zip(names, window, strict=True):
            values = cached[0].astype(np.float32, copy=False)
            reach = pair_lengths(values, keys[name]) if name in keys else np.abs(values)
            ranges[name] = np.maximum(ranges.get(name, np.float32(0)), reach.max(axis=1))
            samples[name].append(values[:, ::stride].copy())
    for name, reach in ranges.items():
        if not np.isfinite(reach).all():
            raise BuildFailed(f"calibration: '{name}' is not finite on the calibration text")
    return ranges, {name: np.concatenate(parts, axis=1) for name, parts in samples.items()}


def _chosen(
    nodes: Sequence[Attention], ranges: Mapping[str, Float32], samples: Mapping[str, Float32]
) -> Iterator[tuple[str, Float32]]:
    """Steps by output and width: the whole range at eight bits, where no value is cut off; the least error at four."""
    for node in nodes:
        turned = samples[node.key]
        pairs = np.concatenate([turned, partners(turned, node)], axis=1)
        for name, values in ((node.key, pairs), (node.value, samples[node.value])):
            reach = np.maximum(ranges[name], _LEAST)
            yield f"{name}/8", (reach / LIMITS[8]).astype(np.float32)
            yield f"{name}/4", least_error_steps(values, reach, LIMITS[4])


def pair_lengths(keys: Float32, node: Attention) -> Float32:
    """Lengths of the pairs that the rotary embedding turns, at both of their channels; magnitudes of the others.

    Args:
        keys: [heads, tokens, channels].
        node: says which channels are pairs.
    """
    lengths: Float32 = np.hypot(keys, partners(keys, node))
    lengths[..., node.turned :] = np.abs(keys[..., node.turned :])
    return lengths


def partners(keys: Float32, node: Attention) -> Float32:
    """Each channel's partner of ``keys`` [heads, tokens, channels]; a channel that is not turned is its own."""
    order = np.arange(keys.shape[-1])
    pairs = order[: node.turned].reshape((-1, 2) if node.interleaved else (2, -1))
    order[: node.turned] = pairs[:, ::-1].reshape(-1) if node.interleaved else pairs[::-1].reshape(-1)
    return keys[..., order]


def least_error_steps(values: Float32, reach: Float32, limit: int) -> Float32:
    """Steps [heads, channels] at which rounding ``values`` [heads, tokens, channels] has the least squared error.

    Args:
        values: that are cached.
        reach: [heads, channels] their range.
        limit: codes lie between ``-limit`` and ``limit - 1``.
    """
    best = np.full(reach.shape, np.inf)
    steps = np.zeros(reach.shape, np.float32)
    for share in SHARES:
        step = (share * reach / limit).astype(np.float32)
        codes = np.clip(np.rint(values / step[:, None]), -limit, limit - 1)
        error = np.square(codes * step[:, None] - values).mean(axis=1, dtype=np.float64)
        better = error < best
        best, steps = np.where(better, error, best), np.where(better, step, steps)
    return steps
