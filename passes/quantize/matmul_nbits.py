"""MatMul -> MatMulNBits: a linear layer whose weight is stored in blocks, its activation float."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from olivine.passes.graph import MICROSOFT, Linear, add_initializer, drop_unused, replace_node
from olivine.passes.quantize.blocks.block_format import BlockFormat
from olivine.passes.quantize.blocks.packing import PackedCodes
from olivine.passes.quantize.embedding import untie_embedding
from olivine.passes.quantize.shared_tensor import SharedTensor


@dataclass(frozen=True)
class Stored:
    """Layer, format and codes of one MatMulNBits.

    Attributes:
        layer: the layer.
        form: its format.
        codes: computes its codes; called as they are written.
    """

    layer: Linear
    form: BlockFormat
    codes: Callable[[], PackedCodes]


def store_in_blocks(model: ir.Model, layers: Sequence[Stored], accuracy_level: int) -> None:
    """Replace each layer's MatMul by MatMulNBits.

    An embedding that shares its weight with the head keeps a float copy of its own.

    Args:
        model: changed in place.
        layers: of this model.
        accuracy_level: least precision of the kernel's arithmetic.
    """
    untie_embedding(model)
    for stored in layers:
        _replace(model, stored, accuracy_level)
    model.opset_imports.setdefault(MICROSOFT, 1)
    drop_unused(model)


def _replace(model: ir.Model, stored: Stored, accuracy_level: int) -> None:
    layer, form = stored.layer, stored.form
    k, n = layer.shape
    blocks = -(-k // form.block_size)
    stem = f"{layer.weight.name}_Q{form.bits}"
    dtype = layer.dtype
    codes = SharedTensor(stored.codes, 3 if form.zero_points else 2)
    shape = (n, blocks, form.block_size * form.bits // 8)
    inputs: list[ir.Value | None] = [
        layer.node.inputs[0],
        add_initializer(model, stem, ir.DataType.UINT8, shape, lambda: codes.take().codes),
        add_initializer(model, f"{stem}_scales", dtype, (n, blocks), lambda: codes.take().scales.astype(dtype.numpy())),
    ]
    if form.zero_points:
        shape_of_zeros = (n, -(-blocks * form.bits // 8))
        name = f"{stem}_zero_points"
        inputs.append(
            add_initializer(model, name, ir.DataType.UINT8, shape_of_zeros, lambda: _present(codes.take().zero_points))
        )
    attributes: dict[str, Any] = {
        "K": k,
        "N": n,
        "bits": form.bits,
        "block_size": form.block_size,
        "accuracy_level": accuracy_level,
    }
    name = f"{layer.node.name}_Q{form.bits}"
    replace_node(model, layer.node, ir.node("MatMulNBits", inputs, attributes, domain=MICROSOFT, name=name))


def _present(array: np.ndarray | None) -> np.ndarray:
    if array is None:
        raise ValueError("symmetric codes have no zero points")
    return array
