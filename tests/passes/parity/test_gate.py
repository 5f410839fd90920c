"""Faults that are planted in an exported graph are caught and their layer is named; a right graph passes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import transformers as tf
from onnx import numpy_helper
from tiny import tiny_sizes

from olivine.passes.errors import WrongGraph
from olivine.passes.export.export import Export
from olivine.passes.parity.agreement import Agreement
from olivine.passes.parity.gate import prove

Make = Callable[..., Path]
Graph = onnx.ModelProto
SIZES = tiny_sizes(layers=3)


class Planted:
    """A checkpoint, its export, and copies of the export with a fault."""

    def __init__(self, checkpoint: Path, exported: Path) -> None:
        self.checkpoint, self.exported = checkpoint, exported

    def fault(self, plant: Callable[[Graph], None]) -> str:
        """What the gate says of a copy with a fault."""
        folder = Path(shutil.copytree(self.exported, self.exported.with_name("faulty"), copy_function=shutil.copyfile))
        graph = onnx.load(folder / "model.onnx")
        plant(graph)
        (folder / "model.onnx.data").unlink()
        onnx.save(graph, folder / "model.onnx", save_as_external_data=True, location="model.onnx.data")
        with pytest.raises(WrongGraph) as caught:
            prove(self.checkpoint, folder)
        return str(caught.value)


@pytest.fixture
def planted(tmp_path: Path, make_tiny_checkpoint: Make) -> Callable[..., Planted]:
    def make(config: Any, **export: str) -> Planted:
        checkpoint = make_tiny_checkpoint(tmp_path / "checkpoint", config=config)
        (tmp_path / "onnx").mkdir()
        Export(**export).apply(checkpoint, tmp_path / "onnx")
        return Planted(checkpoint, tmp_path / "onnx")

    return make


def weight(graph: Graph, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in graph.graph.initializer if tensor.name == name)


def change(graph: Graph, name: str, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    tensor = weight(graph, name)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(edit(numpy_helper.to_array(tensor))), name))


def of_node(graph: Graph, name: str) -> str:
    """Name of the weight of a node."""
    return str(next(node for node in graph.graph.node if node.name == name).input[1])


def test_a_right_graph_passes_and_the_numbers_say_so(planted: Callable[..., Planted]) -> None:
    made = planted(tf.LlamaConfig(**SIZES))
    agreement = prove(made.checkpoint, made.exported)
    assert agreement is not None
    assert agreement.tokens == 256 + 256  # the context ends both
    assert agreement.largest_difference < 1e-4 < agreement.spread
    assert (agreement.top1_agreement, agreement.beyond, agreement.not_covered) == (1.0, 0.0, ())
    assert agreement.kl_divergence < 1e-8
    assert "largest difference of a logit" in agreement.sentence()
    assert Agreement.from_json(agreement.to_json()) == agreement


def test_a_wrong_base_of_rope_is_caught_in_the_first_layer(planted: Callable[..., Planted]) -> None:
    def plant(graph: Graph) -> None:
        angles = np.outer(np.arange(256), 9_000.0 ** (-np.arange(0, 16, 2) / 16)).astype(np.float32)
        change(graph, "cos_cache", lambda _: np.cos(angles))
        change(graph, "sin_cache", lambda _: np.sin(angles))

    assert "part in layer 0, in its attention" in planted(tf.LlamaConfig(**SIZES)).fault(plant)


def test_swapped_gate_and_up_are_caught_in_their_layer(planted: Callable[..., Planted]) -> None:
    def plant(graph: Graph) -> None:
        gate, up = (
            next(node for node in graph.graph.node if node.name == f"/model/layers.1/mlp/{role}_proj/MatMul")
            for role in ("gate", "up")
        )
        gate.input[1], up.input[1] = up.input[1], gate.input[1]

    assert "part in layer 1, in its MLP" in planted(tf.LlamaConfig(**SIZES)).fault(plant)


def test_a_lost_bias_is_caught_in_its_layer(planted: Callable[..., Planted]) -> None:
    def plant(graph: Graph) -> None:
        change(graph, of_node(graph, "/model/layers.2/attn/qkv_proj/Add"), np.zeros_like)

    assert "part in layer 2, in its attention" in planted(tf.Qwen2Config(**SIZES)).fault(plant)


@pytest.mark.parametrize("size", [63, 65])
def test_a_window_that_is_off_by_one_is_caught_in_its_layer(planted: Callable[..., Planted], size: int) -> None:
    def plant(graph: Graph) -> None:
        node = next(node for node in graph.graph.node if node.name == "/model/layers.1/attn/GroupQueryAttention")
        next(attribute for attribute in node.attribute if attribute.name == "local_window_size").i = size

    said = planted(tf.MistralConfig(**SIZES, sliding_window=64)).fault(plant)
    assert "part in layer 1, in its attention" in said
    assert "from token 6" in said  # 63 or 64


def test_a_transposed_weight_is_caught_in_its_layer(planted: Callable[..., Planted]) -> None:
    def plant(graph: Graph) -> None:
        change(graph, of_node(graph, "/model/layers.0/attn/o_proj/MatMul"), np.transpose)

    assert "part in layer 0, in its attention" in planted(tf.LlamaConfig(**SIZES)).fault(plant)


@pytest.mark.parametrize(
    ("norm", "place"),
    [
        ("model.layers.1.input_layernorm.weight", "part in layer 1, in its attention"),
        ("model.layers.1.post_attention_layernorm.weight", "part in layer 1, in its MLP"),
        ("model.layers.3.final_norm_layernorm.weight", "agree up to layer 2 and part in the final norm or the head"),
    ],
)
def test_a_dropped_weight_of_a_norm_is_caught_in_its_layer(
    planted: Callable[..., Planted], norm: str, place: str
) -> None:
    assert place in planted(tf.LlamaConfig(**SIZES)).fault(lambda graph: change(graph, norm, np.ones_like))


def test_a_wrong_embedding_is_told_as_one(planted: Callable[..., Planted]) -> None:
    def plant(graph: Graph) -> None:
        lookup = next(node for node in graph.graph.node if node.name == "/model/embed_tokens/Gather")
        change(graph, lookup.input[0], lambda values: values * 1.01)

    assert "part in the embedding" in planted(tf.LlamaConfig(**tiny_sizes(tied=False))).fault(plant)


def test_a_lost_cap_is_caught_in_the_head(planted: Callable[..., Planted]) -> None:
    config = tf.Gemma2Config(**SIZES, head_dim=16, query_pre_attn_scalar=16, sliding_window=64)

    def plant(graph: Graph) -> None:
        node = next(node for node in graph.graph.node if node.name == "/lm_head/softcap/Tanh")
        node.op_type = "Identity"

    config.final_logit_softcapping = 2.0
    assert "part in the final norm or the head" in planted(config).fault(plant)


def test_logits_that_are_not_finite_are_caught(planted: Callable[..., Planted]) -> None:
    def plant(graph: Graph) -> None:
        change(graph, "model.layers.2.input_layernorm.weight", lambda values: values * np.nan)

    assert "part in layer 2" in planted(tf.LlamaConfig(**SIZES)).fault(plant)


ARCHITECTURES = {
    "phi": tf.PhiConfig(**tiny_sizes(hidden=256, tied=False)),
    "gemma3": tf.Gemma3TextConfig(**tiny_sizes(layers=6), head_dim=16, query_pre_attn_scalar=16, sliding_window=64),
    "granite": tf.GraniteConfig(**SIZES, embedding_multiplier=3.0, residual_multiplier=0.3, logits_scaling=4.0),
    "gpt-oss": tf.GptOssConfig(**SIZES, head_dim=16, num_local_experts=4, num_experts_per_tok=2, sliding_window=64),
    "lfm2": tf.Lfm2Config(**SIZES, block_auto_adjust_ff_dim=False, layer_types=["conv", "full_attention", "conv"]),
    "smollm3": tf.SmolLM3Config(**tiny_sizes(layers=4)),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_other_architectures_pass(name: str, planted: Callable[..., Planted]) -> None:
    made = planted(ARCHITECTURES[name])
    agreement = prove(made.checkpoint, made.exported)
    assert agreement is not None
    assert agreement.kl_divergence < 1e-7


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_of_other_types_are_read_layer_by_layer(
    dtype: str, planted: Callable[..., Planted], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from olivine.passes.parity.reference import Reference

    made = planted(tf.LlamaConfig(**SIZES))
    model = tf.AutoModelForCausalLM.from_pretrained(made.checkpoint, dtype=getattr(torch, dtype))
    model.save_pretrained(made.checkpoint)
    shutil.rmtree(made.exported)
    made.exported.mkdir()
    Export().apply(made.checkpoint, made.exported)
    agreement = prove(made.checkpoint, made.exported)
    assert agreement is not None
    assert agreement.largest_difference < 1e-4
    reference = Reference(made.checkpoint)
    assert next(reference.logits(range(4, 20), [16])).shape == (16, 320)
    held = [type(parameter).__name__ for parameter in reference._model.parameters()]
    assert set(held) == {"Deferred"}  # nothing stays in memory


def test_half_precision_passes_within_its_rounding(planted: Callable[..., Planted]) -> None:
    made = planted(tf.LlamaConfig(**SIZES), precision="fp16", provider="cuda")
    agreement = prove(made.checkpoint, made.exported, "fp16")
    assert agreement is not None
    assert 1e-5 < agreement.largest_difference < 0.1
    assert agreement.precision == "fp16"


def test_what_the_cpu_can_not_run_is_not_compared(planted: Callable[..., Planted]) -> None:
    made = planted(tf.LlamaConfig(**SIZES), precision="bf16", provider="cuda")
    assert prove(made.checkpoint, made.exported, "bf16") is None
