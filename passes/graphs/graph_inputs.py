"""Inputs of a graph: names, types and sizes, and made-up values that fit them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from olivine.passes.errors import UsageError, did_you_mean

Feed = dict[str, np.ndarray]
#: Operators that an index goes through on its way to the table.
_SEEN_THROUGH = ("Cast", "Identity", "Unsqueeze", "Reshape")
#: Ids below this fit the table of an index whose size is not known.
SAFE_ROWS = 2


@dataclass(frozen=True)
class GraphInput:
    """One input.

    Attributes:
        name: as feeds name it.
        dtype: numpy's name of its type.
        dims: a size, or the name of a size that a feed chooses, per axis.
        rows: size of the table that it is an index into; None where it is no index, or the table was not found.
    """

    name: str
    dtype: str
    dims: tuple[int | str, ...]
    rows: int | None = None


def graph_inputs(path: Path) -> tuple[GraphInput, ...]:
    """The inputs of a graph, without those that have an initial value."""
    graph = onnx.load(path, load_external_data=False).graph
    shapes = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    inputs = []
    for value in graph.input:
        if value.name in shapes:
            continue
        tensor, name = value.type.tensor_type, value.name
        dims = tuple(dim.dim_value or dim.dim_param or f"{name}.{axis}" for axis, dim in enumerate(tensor.shape.dim))
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        inputs.append(GraphInput(name, dtype, dims, _rows(graph, name, shapes)))
    return tuple(inputs)


def _rows(graph: onnx.GraphProto, name: str, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """Rows of the table that an input selects from: that of a Gather, or of a fused embedding."""
    aliases = {name}
    for node in graph.node:
        if node.op_type in _SEEN_THROUGH and node.input and node.input[0] in aliases:
            aliases.update(node.output)
        if node.op_type == "Gather" and node.input[1] in aliases and node.input[0] in shapes:
            return shapes[node.input[0]][0]
    return None


def open_dims(inputs: Sequence[GraphInput]) -> list[str]:
    """The names of sizes that a feed has to choose."""
    return list(dict.fromkeys(dim for graph_input in inputs for dim in graph_input.dims if isinstance(dim, str)))


def check_sizes(inputs: Sequence[GraphInput], sizes: Mapping[str, int], where: str) -> None:
    """Refuse named sizes that do not fit a graph.

    Raises:
        UsageError: naming a size that is missing, or one that the graph does not have.
    """
    known = open_dims(inputs)
    listed = ", ".join(f"{graph_input.name} {list(graph_input.dims)}" for graph_input in inputs)
    for name in known:
        if name not in sizes:
            raise UsageError(f"{where} gives no size '{name}'. The graph reads {listed}.")
    for name in sizes:
        if name not in known:
            hint = did_you_mean(name, known) if known else "All its sizes are fixed: write {}."
            raise UsageError(f"{where} names '{name}', which no input has. {hint} The graph reads {listed}.")


def synthetic(inputs: Sequence[GraphInput], sizes: Mapping[str, int], rng: np.random.Generator) -> Feed:
    """Made-up values: ids within their table, masks of ones, pictures with the spectrum of photographs, else noise."""
    feed = {}
    for graph_input in inputs:
        shape = [sizes[dim] if isinstance(dim, str) else dim for dim in graph_input.dims]
        feed[graph_input.name] = _values(graph_input, shape, rng)
    return feed


def _values(graph_input: GraphInput, shape: list[int], rng: np.random.Generator) -> np.ndarray:
    dtype, name = np.dtype(graph_input.dtype), graph_input.name.lower()
    kind = dtype.kind
    if "mask" in name or kind == "b":
        return np.ones(shape, dtype)
    if kind in "iu":
        if "type" in name:
            return np.zeros(shape, dtype)
        if "position" in name:
            return np.broadcast_to(np.arange(shape[-1], dtype=dtype), shape).copy()
        return rng.integers(0, graph_input.rows or SAFE_ROWS, shape).astype(dtype)
    if len(shape) == 4 and shape[1] in (1, 3):
        return _pictures(shape, rng).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def _pictures(shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """[count, channels, height, width] of mean 0 and deviation 1, with amplitudes that fall as 1 / frequency.

    Source: Field (1987), Relations between the statistics of natural images and the response properties of cortical
    cells, J. Opt. Soc. Am. A 4(12).
    """
    count, channels, height, width = shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    amplitude = 1 / np.maximum(frequency, 1 / max(height, width))

    def layer(layers: int) -> np.ndarray:
        phase = rng.uniform(0, 2 * np.pi, (count, layers, *amplitude.shape))
        noise = np.fft.irfft2(amplitude * np.exp(1j * phase), s=(height, width))
        even: np.ndarray = noise / noise.std(axis=(2, 3), keepdims=True)
        return even

    pictures = layer(1) + 0.3 * layer(channels)  # the colours of a photograph go together
    pictures -= pictures.mean(axis=(2, 3), keepdims=True)
    scaled: np.ndarray = pictures / pictures.std(axis=(2, 3), keepdims=True)
    return scaled


def read_feeds(path: Path) -> list[Feed]:
    """The samples in a file, in their order; see :func:`write_feeds`."""
    with np.load(path) as stored:
        names: dict[int, list[str]] = {}
        for name in stored.files:
            number, _, name_of_input = name.partition("/")
            names.setdefault(int(number), []).append(name_of_input)
        return [{name: stored[f"{number}/{name}"] for name in names[number]} for number in sorted(names)]


def write_feeds(path: Path, feeds: Sequence[Feed]) -> None:
    """Write samples, each array under ``number/input``."""
    arrays = {f"{number}/{name}": value for number, feed in enumerate(feeds) for name, value in feed.items()}
    with path.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)
