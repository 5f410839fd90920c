"""External data of an ONNX graph: weights in files beside it, and nowhere else (onnx/docs/ExternalData.md)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from olivine.passes.errors import SourceError
from olivine.passes.sources.file_names import inside

if TYPE_CHECKING:
    import onnx


def external_files(graph: Path, model: onnx.ModelProto) -> set[str]:
    """Names of the files that hold a graph's weights, all of them in the graph's own folder.

    Args:
        graph: the file of the model.
        model: read without its external data.

    Raises:
        SourceError: when a weight lies outside the folder, in no file, or beyond the end of its file.
    """
    names = set()
    for tensor in tensors(model):
        about = {entry.key: entry.value for entry in tensor.external_data}
        if not about:
            continue
        what = f"weight '{tensor.name[:100]}'"
        path = inside(graph.parent, about.get("location", ""), what)
        if not path.is_file():
            raise SourceError(f"{graph.parent}: the graph keeps its weights in {path.name}, which is not there")
        size = path.stat().st_size
        span = [about.get(key, "0") for key in ("offset", "length")]
        if not all(value.isascii() and value.isdigit() and len(value) < 20 for value in span):
            raise SourceError(f"{graph.parent}: {what} has an offset or length that is no number")
        if sum(map(int, span)) > size or int(span[0]) + tensor_bytes(tensor, what) > size:
            raise SourceError(f"{graph.parent}: {what} ends behind the end of {path.name}")
        names.add(path.name)
    return names


def tensor_bytes(tensor: onnx.TensorProto, what: str) -> int:
    """Bytes of a tensor by its type and shape.

    Raises:
        SourceError: when it has no type of a fixed size, or a shape that is none.
    """
    try:
        bits = ir.DataType(tensor.data_type).bitwidth
    except (TypeError, ValueError):
        raise SourceError(f"{what} has the type {tensor.data_type}, which no file holds") from None
    # One dimension may be zero, and the others still too large for anybody's arithmetic.
    if any(size < 0 for size in tensor.dims) or math.prod(max(1, size) for size in tensor.dims) >= 2**48:
        raise SourceError(f"{what} has the shape {list(tensor.dims)[:8]}")
    return int(-(-math.prod(tensor.dims) * bits // 8))


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor in a model, those in attributes, subgraphs and functions too."""
    yield from _of_graph(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _of_node(node)
    for training in model.training_info:
        yield from _of_graph(training.initialization)
        yield from _of_graph(training.algorithm)


def _of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _of_node(node)


def _of_node(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        yield attribute.t
        yield from attribute.tensors
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        # A field that is not set reads as an empty message of its own: only what is there is descended into.
        for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
            yield from _of_graph(graph)
