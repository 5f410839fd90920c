"""Reading and writing ONNX graphs whose weights stay on disk, and finding the linear layers in them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from olivine.passes.artifact import link_or_copy
from olivine.passes.errors import BuildFailed

MICROSOFT = "com.microsoft"
#: Path of the head, as :attr:`Linear.path` has it.
HEAD = "lm_head"
_LAYER = re.compile(r"layers\.(\d+)/")


@dataclass(frozen=True)
class Linear:
    """A MatMul with a constant two-dimensional weight.

    Attributes:
        node: the MatMul node.
        weight: its weight, shape [K, N] (inputs, outputs).
        layer: decoder layer, or None for the head.
        role: the projection, in the model builder's words: ``qkv_proj``, ``o_proj``, ``down_proj``, ``lm_head`` ...
    """

    node: ir.Node
    weight: ir.Value
    layer: int | None
    role: str

    @property
    def shape(self) -> tuple[int, int]:
        """(K, N): input and output features."""
        k, n = constant(self.weight).shape.numpy()
        return k, n

    @property
    def dtype(self) -> ir.DataType:
        """The type of the weight, and so of the activation that the layer reads."""
        return constant(self.weight).dtype

    @property
    def reads(self) -> str:
        """Name of the activation that it reads; empty where it reads none."""
        activation = self.node.inputs[0]
        return "" if activation is None else str(activation.name)

    @property
    def reads_product(self) -> bool:
        """True when what it reads is a product, as that of down_proj is."""
        activation = self.node.inputs[0]
        producer = None if activation is None else activation.producer()
        return producer is not None and producer.op_type == "Mul"

    @property
    def path(self) -> str:
        """``layers.3/down_proj`` or ``lm_head``: what patterns in YAML are matched against."""
        return self.role if self.layer is None else f"layers.{self.layer}/{self.role}"

    def array(self) -> np.ndarray:
        """The weight, [K, N], memory-mapped where the file allows it."""
        return np.asarray(constant(self.weight).numpy())


def constant(value: ir.Value) -> ir.TensorProtocol:
    """The tensor of a weight.

    Raises:
        ValueError: when the value is no constant.
    """
    if value.const_value is None:
        raise ValueError(f"'{value.name}' is no constant")
    return value.const_value


def linears(model: ir.Model) -> Iterator[Linear]:
    """Every linear layer of the decoder, in graph order; where a node has no name, its weight's stands for it.

    A weight that may be given as an input is none: it is the default of an adapter's factor.
    """
    for node in model.graph:
        if node.op_type != "MatMul" or node.inputs[1] is None:
            continue
        weight = node.inputs[1]
        if weight.const_value is None or len(weight.const_value.shape) != 2 or weight.is_graph_input():
            continue
        name = node.name or weight.name or ""
        parts = [part for part in name.split("/") if part] or [name]
        layer = _LAYER.search(name)
        yield Linear(node, weight, int(layer[1]) if layer else None, parts[-2] if len(parts) > 1 else parts[0])


def add_initializer(
    model: ir.Model, name: str, dtype: ir.DataType, shape: tuple[int, ...], compute: Callable[[], np.ndarray]
) -> ir.Value:
    """Add a weight that is computed when it is written, so that one weight at a time is in memory."""
    tensor = ir.LazyTensor(lambda: ir.tensor(compute(), name=name), dtype=dtype, shape=ir.Shape(shape), name=name)
    value = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape), const_value=tensor)
    model.graph.register_initializer(value)
    return value


def replace_node(model: ir.Model, old: ir.Node, new: ir.Node) -> None:
    """Put ``new`` where ``old`` is; its single output keeps its name."""
    (output,) = old.outputs
    new.outputs[0].type, new.outputs[0].shape = output.type, output.shape
    name = output.name
    ir.convenience.replace_nodes_and_values(model.graph, old, [old], [new], [output], [new.outputs[0]])
    new.outputs[0].name = name


def drop_unused(model: ir.Model) -> None:
    """Remove weights, and nodes without side effects, that nothing reads any more."""
    outputs = set(model.graph.outputs)
    for node in reversed(list(model.graph)):
        if not any(value.uses() or value in outputs for value in node.outputs):
            model.graph.remove(node, safe=True)
    for name, value in list(model.graph.initializers.items()):
        if not value.uses() and value not in outputs:
            del model.graph.initializers[name]


def load_graph(path: Path) -> ir.Model:
    """Read a graph; its external weights stay memory-mapped.

    Cached folders share weight files by hard links, which onnx_ir's own external tensors refuse to read.

    Raises:
        BuildFailed: when a weight lies outside the graph's folder or file.
    """
    model = ir.load(path)
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor):
            value.const_value = ir.tensor(_mapped(path, tensor), dtype=tensor.dtype, name=tensor.name)
    return model


def _mapped(graph: Path, tensor: ir.ExternalTensor) -> np.ndarray:
    """The bytes of an external tensor as a read-only memory map, in the tensor's shape."""
    location = graph.parent / tensor.location
    if location.resolve().parent != graph.parent.resolve():
        raise BuildFailed(f"{graph}: weight '{tensor.name}' lies outside the folder, at '{tensor.location}'")
    dtype, shape, offset = tensor.dtype.numpy(), tensor.shape.numpy(), tensor.offset or 0
    if offset + math.prod(shape) * dtype.itemsize > location.stat().st_size:
        raise BuildFailed(f"{graph}: weight '{tensor.name}' ends behind the end of '{tensor.location}'")
    if math.prod(shape) == 0:
        return np.empty(shape, dtype)
    return np.memmap(location, dtype, "r", offset, shape)


def save_graph(model: ir.Model, path: Path) -> None:
    """Write the graph and, one tensor at a time, its weights to ``<name>.data`` beside it."""
    model.graph.sort()
    ir.save(model, path, external_data=f"{path.name}.data", size_threshold_bytes=256)


def save_wiring(model: ir.Model, folder: Path, name: str, to: Path) -> None:
    """Write a graph whose weights were not touched since ``ir.load``, beside hard links to all else in its folder.

    Args:
        model: the graph.
        folder: the folder that it was read from.
        name: of its file in both folders.
        to: the folder to fill.
    """
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != name):
        link_or_copy(file, to / file.relative_to(folder))
    ir.save(model, to / name)
