"""Size of a graph, read from headers before anything is built: its weights, and the positions that it computes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from olivine.passes.errors import SourceError
from olivine.passes.graphs.graph_inputs import graph_inputs
from olivine.passes.graphs.source import GraphSource
from olivine.passes.sources.json_file import read_json
from olivine.passes.sources.weights.safetensors_header import read_header

#: Pixels along a side of a patch, where neither config nor graph tells.
_PATCH = 16
#: Parts of checkpoints that encoders leave out: Whisper's decoder, CLIP's text tower.
_LEFT_OUT = {"whisper": ("decoder.", "proj_out."), "clip": ("text_model.", "text_projection.", "logit_scale")}


@dataclass(frozen=True)
class GraphSize:
    """Weights by the work that they do, and positions by the shape of a feed.

    Attributes:
        products: weights of matrix products.
        narrowing: those among them with fewer outputs than inputs, which mostly read an activation function.
        embedding: weights of tables that are looked up.
        other: convolutions, biases, norms and constants.
        activations_a_position: values that products read and write for one position.
        positions: shape -> positions (tokens, patches, frames; of all samples of a feed) that go through the products.
    """

    products: float
    narrowing: float
    embedding: float
    other: float
    activations_a_position: float
    positions: Mapping[str, float]

    @property
    def total(self) -> float:
        """All weights."""
        return self.products + self.embedding + self.other

    def operations(self, shape: str) -> float:
        """Floating-point operations of one run: two a weight of a product and position; attention is left out."""
        return 2 * self.products * self.positions[shape]


def graph_size(source: GraphSource, shapes: Mapping[str, Mapping[str, int]]) -> GraphSize:
    """Size of a model of a graph study.

    Args:
        source: the model.
        shapes: name -> sizes of the open axes, as the study has them.

    Raises:
        SourceError: when its files can't be read.
    """
    return _of_graph(source, shapes) if source.kind == "onnx" else _of_checkpoint(source, shapes)


def _of_graph(source: GraphSource, shapes: Mapping[str, Mapping[str, int]]) -> GraphSize:
    try:
        graph = onnx.load(source.path, load_external_data=False).graph
    except Exception as error:  # protobuf's errors share no class of their own
        raise SourceError(f"{source.path} is no ONNX graph: {error}") from error
    dims = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    products = narrowing = embedding = activations = 0.0
    patch = _PATCH * _PATCH
    for node in graph.node:
        weight = next((dims[name] for name in node.input[:2] if len(dims.get(name, ())) == 2), None)
        if node.op_type == "Conv" and patch == _PATCH * _PATCH:
            attributes = {attribute.name: attribute for attribute in node.attribute}
            patch = math.prod(attributes["strides"].ints) if "strides" in attributes else 1
        if weight is None:
            continue
        if node.op_type in ("MatMul", "Gemm"):
            transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
            inputs, outputs = reversed(weight) if transposed else weight
            products += math.prod(weight)
            activations += sum(weight)
            narrowing += math.prod(weight) * (inputs > outputs)
        elif node.op_type == "Gather":
            embedding += math.prod(weight)
    total = float(sum(math.prod(shape) for shape in dims.values()))
    positions = {name: _positions(source, sizes, patch) for name, sizes in shapes.items()}
    return GraphSize(products, narrowing, embedding, max(0.0, total - products - embedding), activations, positions)


def _positions(source: GraphSource, sizes: Mapping[str, int], patch: int) -> float:
    """Positions of a feed: ids one each, pictures one a patch, other arrays one a row."""
    most = 1.0
    for graph_input in graph_inputs(source.path):
        dims = [sizes.get(dim, 1) if isinstance(dim, str) else dim for dim in graph_input.dims]
        ids = graph_input.dtype.startswith("int")
        count = float(math.prod(dims if ids else dims[:-1]))
        if not ids and len(dims) == 4:
            count = dims[0] * dims[2] * dims[3] / patch
        most = max(most, count)
    return most


def _of_checkpoint(source: GraphSource, shapes: Mapping[str, Mapping[str, int]]) -> GraphSize:
    config = read_json(source.path / "config.json")
    left_out = _LEFT_OUT.get(str(config.get("model_type", "")), ())
    products = narrowing = embedding = other = activations = 0.0
    for file in sorted(source.path.glob("*.safetensors")):
        for name, about in read_header(file).items():
            shape, count = about["shape"], float(math.prod(about["shape"]))
            if any(part in name for part in left_out):
                continue
            if len(shape) != 2:
                other += count
            elif "embed" in name:
                embedding += count
            else:
                products += count
                activations += sum(shape)
                narrowing += count * (shape[1] > shape[0])
    positions = {name: sizes.get("batch", 1) * _positions_of(config, sizes) for name, sizes in shapes.items()}
    return GraphSize(products, narrowing, embedding, other, activations, positions)


def _positions_of(config: Mapping[str, Any], sizes: Mapping[str, int]) -> float:
    """Positions of one sample of an encoder."""
    vision = config.get("vision_config") or config
    if "image_size" in vision:
        size, patch = vision["image_size"], vision.get("patch_size") or _PATCH
        height, width = (size, size) if isinstance(size, int) else size
        return float(height * width / (patch * patch if isinstance(patch, int) else math.prod(patch)))
    if "max_source_positions" in config:
        return float(config["max_source_positions"])
    return float(sizes.get("sequence", 1))
