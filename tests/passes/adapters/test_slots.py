"""Places for adapters: where they stand in a graph, and which graphs have none."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

from olivine.passes.adapters.slots import AdapterSlots, places
from olivine.passes.errors import PassRefused
from olivine.passes.graph import linears, load_graph


def test_a_place_is_an_input_of_open_rank_that_need_not_be_given(tiny_onnx: Path, tmp_path: Path) -> None:
    model = load_graph(tiny_onnx / "model.onnx")
    before = [layer.path for layer in linears(model)]
    AdapterSlots(r"layers\.0/(q_proj|down_proj)").rewrite(model)
    assert [layer.path for layer in linears(model)] == before, "factors of adapters are no linear layers"
    ir.save(model, tmp_path / "model.onnx", external_data="model.onnx.data")
    found = places(tmp_path / "model.onnx")
    assert {path: (place.inputs, place.outputs) for path, place in found.items()} == {
        "layers.0/qkv_proj": (64, 128),
        "layers.0/down_proj": (128, 64),
    }
    import onnxruntime as ort

    session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    optional = {value.name: value.shape for value in session.get_overridable_initializers()}
    assert optional["layers.0/qkv_proj/lora_A"] == [64, "layers.0/qkv_proj/rank"]
    assert optional["layers.0/qkv_proj/lora_B"] == ["layers.0/qkv_proj/rank", 128]
    assert not any("lora" in value.name for value in session.get_inputs())


@pytest.mark.parametrize("layers", [r"layers\.9/q_proj", "lm_head", "q_proj"])
def test_a_graph_without_such_a_layer_is_refused(layers: str, tiny_onnx: Path) -> None:
    with pytest.raises(PassRefused, match="the graph has no linear layer that adapters could add to"):
        AdapterSlots(layers).rewrite(load_graph(tiny_onnx / "model.onnx"))
