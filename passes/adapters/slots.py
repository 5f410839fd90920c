"""Places for LoRA adapters in a graph: inputs that need not be given, and the products that they are the factors of.

``y = MatMul(x, W)`` becomes ``y + MatMul(MatMul(x, A), B)``. ``A`` [K, rank] and ``B`` [rank, N] are inputs of the
graph with a default of rank 0, so that without an adapter the sum is ``y``. ONNX Runtime feeds them from an adapter
file (``RunOptions.add_active_adapter``, ``set_active_adapter`` of ONNX Runtime GenAI). The rank is open: adapters of
different ranks share a place. The scale is in ``B``. Cases:

1. a projection that the exporter has merged (``qkv_proj``, ``gate_up_proj``) has one place for all its parts;
2. passes that quantize the layer come later: ``x`` and ``y`` of the branch stay float, whatever becomes of ``W``;
3. the head has none: what prunes it, or shares its codes, has to know it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from olivine.passes.base import Choice, GraphPass
from olivine.passes.errors import PassRefused
from olivine.passes.graph import Linear, linears
from olivine.passes.learn.merged_layers import MERGED

#: Ends of the names of the two inputs of a place; before it stands the path of its layer.
DOWN, UP = "/lora_A", "/lora_B"


@dataclass(frozen=True)
class AdapterSlots(GraphPass):
    """Give linear layers places for adapters.

    Attributes:
        layers: a regular expression for the whole paths of the layers that adapters add to (``layers.3/q_proj``); a
            merged layer has a place where one of its parts fits, and a part where the merged layer does.
    """

    layers: str

    name: ClassVar[str] = "adapter_slots"
    requires: ClassVar[frozenset[str]] = frozenset({"onnx", "float"})

    @classmethod
    def from_choice(cls, choice: Choice) -> None:
        """No axis asks for it: adapters come with an export."""
        return None

    def rewrite(self, model: ir.Model) -> None:
        """Add the places.

        Raises:
            PassRefused: when no layer fits, or two have one path.
        """
        fitting = [layer for layer in linears(model) if layer.layer is not None and self._fits(layer)]
        paths = [layer.path for layer in fitting]
        if not paths or len(set(paths)) < len(paths):
            what = "no linear layer" if not paths else "several linear layers of one name"
            raise PassRefused(f"{self.name}: the graph has {what} that adapters could add to ({self.layers})")
        for layer in fitting:
            _add_place(model, layer)

    def _fits(self, layer: Linear) -> bool:
        prefix = layer.path.removesuffix(layer.role)
        wholes = [whole for whole, parts in MERGED.items() if layer.role in parts]
        roles = (layer.role, *MERGED.get(layer.role, ()), *wholes)
        return any(re.fullmatch(self.layers, prefix + role) for role in roles)


@dataclass(frozen=True)
class Place:
    """A place for an adapter.

    Attributes:
        inputs: K, features that its layer reads.
        outputs: N, features that it puts out.
        dtype: of the two factors.
    """

    inputs: int
    outputs: int
    dtype: ir.DataType


def places(graph: Path) -> Mapping[str, Place]:
    """Path of each layer that has a place -> the place, in graph order."""
    inputs = {str(value.name): value for value in ir.load(graph).graph.inputs}
    found = {}
    for name, down in inputs.items():
        if not name.endswith(DOWN):
            continue
        path = name.removesuffix(DOWN)
        up = inputs[path + UP]
        assert down.shape is not None and up.shape is not None and down.dtype is not None
        found[path] = Place(int(down.shape[0]), int(up.shape[1]), down.dtype)  # type: ignore[arg-type] # sizes are numbers
    return found


def _add_place(model: ir.Model, layer: Linear) -> None:
    (k, n), node, path = layer.shape, layer.node, layer.path
    (product,) = node.outputs
    readers = list(product.uses())
    down = _optional_input(model, path + DOWN, layer.dtype, (k, None))
    up = _optional_input(model, path + UP, layer.dtype, (None, n))
    lower = ir.node("MatMul", [node.inputs[0], down], name=f"{path}{DOWN}/MatMul")
    upper = ir.node("MatMul", [lower.outputs[0], up], name=f"{path}{UP}/MatMul")
    total = ir.node("Add", [product, upper.outputs[0]], name=f"{path}/lora/Add")
    for new in (lower, upper, total):
        new.outputs[0].name, new.outputs[0].type = f"{new.name}/output_0", product.type
    total.outputs[0].shape = product.shape
    model.graph.insert_after(node, [lower, upper, total])
    for reader in readers:
        reader.node.replace_input_with(reader.idx, total.outputs[0])


def _optional_input(model: ir.Model, name: str, dtype: ir.DataType, shape: tuple[int | None, ...]) -> ir.Value:
    """An input [inputs, rank] or [rank, outputs] whose rank is open, and 0 where it is not given."""
    rank = name.removesuffix(DOWN).removesuffix(UP) + "/rank"
    nothing = ir.tensor(np.zeros([size or 0 for size in shape], dtype.numpy()), dtype=dtype, name=name)
    value = ir.Value(
        name=name,
        type=ir.TensorType(dtype),
        shape=ir.Shape([rank if size is None else size for size in shape]),
        const_value=nothing,
    )
    model.graph.inputs.append(value)
    model.graph.register_initializer(value)
    return value
