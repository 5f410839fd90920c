from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from olivine.passes.graph import linears
from olivine.passes.quantize.activations.fold_division import fold_divisions
from olivine.passes.quantize.activations.integer_matmul import REDUCED_TOP, quantize_activations
from olivine.passes.quantize.blocks.block_format import BlockFormat
from olivine.passes.quantize.blocks.layer_codes import layer_codes
from olivine.passes.quantize.dynamic import DynamicQuantize
from olivine.passes.quantize.matmul_nbits import Stored, store_in_blocks

Rewrite = Callable[..., Any]
Make = Callable[..., onnx.ModelProto]
IDS = np.array([0, 7, 39, 7], np.int64)
MLP = "/model/layers.0/mlp"
INNER = 96


class Smoothed(DynamicQuantize):
    """down_proj is dynamic int8 behind a division; the layers before it are of the kinds that are asked for."""

    def __init__(self, before: str, fold: bool) -> None:
        object.__setattr__(self, "before", before)
        object.__setattr__(self, "fold", fold)

    def rewrite(self, model: ir.Model) -> None:
        layers = {layer.path.rpartition("/")[2]: layer for layer in linears(model)}
        down = layers.pop("down_proj")
        others = [layer for name, layer in layers.items() if name != "lm_head"]
        factors = {down.reads: np.linspace(0.5, 2, INNER, dtype=np.float32)}
        if self.before == "dynamic":  # type: ignore[attr-defined]
            divisions = quantize_activations(model, [*others, down], REDUCED_TOP, factors)
        elif self.before == "dynamic by token":  # type: ignore[attr-defined]
            paths = [layer.path for layer in (*others, down)]
            divisions = quantize_activations(model, [*others, down], REDUCED_TOP, factors, paths)
        else:
            divisions = quantize_activations(model, [down], REDUCED_TOP, factors)
        if self.before == "blocks":  # type: ignore[attr-defined]
            form = BlockFormat(8, "rtn", 32, False)
            codes = layer_codes(others, form)
            store_in_blocks(model, [Stored(layer, form, of) for layer, of in zip(others, codes, strict=True)], 0)
        if self.fold:  # type: ignore[attr-defined]
            fold_divisions(model, divisions)


def divisions(nodes: dict[str, onnx.NodeProto]) -> list[str]:
    return [name for name in nodes if name.endswith("/Smooth")]


@pytest.mark.parametrize("before", ["dynamic", "dynamic by token", "blocks"])
@pytest.mark.parametrize("merged", [False, True], ids=["apart", "merged"])
def test_a_division_becomes_part_of_the_scales_before_it(
    rewrite: Rewrite, decoder: Make, before: str, merged: bool
) -> None:
    make = (lambda: _merged(decoder())) if merged else decoder
    folded = rewrite(make(), Smoothed(before, fold=True), name="folded")
    left = rewrite(make(), Smoothed(before, fold=False), name="left")
    assert len(divisions(left.nodes())) == 1
    assert not divisions(folded.nodes())
    assert not [name for name in folded.weights() if "Smooth" in name]
    expected = left.run(ids=IDS)
    assert np.abs(folded.run(ids=IDS) - expected).max() < 2e-2 * np.abs(expected).max()


def test_only_one_factor_of_the_product_is_divided(rewrite: Rewrite, decoder: Make) -> None:
    folded, left = (
        rewrite(_merged(decoder()), Smoothed("dynamic", fold), name=str(fold)).weights() for fold in (True, False)
    )
    (scales,) = [name for name in left if "gate_up" in name and name.endswith("_scales")]
    np.testing.assert_allclose(folded[scales][:INNER], left[scales][:INNER] / np.linspace(0.5, 2, INNER), rtol=1e-6)
    np.testing.assert_array_equal(folded[scales][INNER:], left[scales][INNER:])


def test_a_division_behind_a_float_layer_stays(rewrite: Rewrite, decoder: Make) -> None:
    assert len(divisions(rewrite(decoder(), Smoothed("float", fold=True)).nodes())) == 1


def test_a_division_of_what_others_read_too_stays(rewrite: Rewrite, decoder: Make) -> None:
    model = decoder()
    (product,) = [node for node in model.graph.node if node.op_type == "Mul"]
    model.graph.output.append(helper.make_tensor_value_info(product.output[0], TensorProto.FLOAT, ["S", None]))
    model.graph.node.append(helper.make_node("Neg", [product.output[0]], ["other"]))
    model.graph.output.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, ["S", None]))
    assert len(divisions(rewrite(model, Smoothed("dynamic", fold=True)).nodes())) == 1


def _merged(model: onnx.ModelProto) -> onnx.ModelProto:
    """Gate and up as one MatMul with a Split behind it, as the model builder merges them."""
    weights = {w.name: w for w in model.graph.initializer}
    gate, up = (next(n for n in model.graph.node if n.name == f"{MLP}/{one}_proj/MatMul") for one in ("gate", "up"))
    both = np.hstack([numpy_helper.to_array(weights[node.input[1]]) for node in (gate, up)])
    merged = helper.make_node("MatMul", [gate.input[0], "gate_up"], ["merged"], name=f"{MLP}/gate_up_proj/MatMul")
    split = helper.make_node("Split", ["merged"], [gate.output[0], up.output[0]], axis=-1, num_outputs=2)
    nodes = list(model.graph.node)
    place = min(nodes.index(gate), nodes.index(up))
    nodes = [node for node in nodes if node not in (gate, up)]
    del model.graph.node[:]
    model.graph.node.extend([*nodes[:place], merged, split, *nodes[place:]])
    for node in (gate, up):
        model.graph.initializer.remove(weights[node.input[1]])
    model.graph.initializer.append(numpy_helper.from_array(both, "gate_up"))
    return model
