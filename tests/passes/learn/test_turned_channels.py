"""Channels that are turned are read from the graph, wherever it keeps its tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import transformers as tf

from olivine.passes.errors import PassRefused
from olivine.passes.export.export import Export
from olivine.passes.learn.cache_scales import Attention, partners
from olivine.passes.learn.turned_channels import turned_channels
from tests.tiny import tiny_sizes


def exported(checkpoint: Path, to: Path) -> list[Attention]:
    """Attention of each layer of a checkpoint's float graph for the CPU."""
    to.mkdir()
    Export().apply(checkpoint, to)
    graph = ir.load(to / "model.onnx").graph
    return [Attention.of(node) for node in graph if node.op_type == "GroupQueryAttention"]


def test_longrope_over_a_part_of_each_head_turns_that_part(
    tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]
) -> None:
    """As Phi-4-mini has it: an ``If`` chooses the tables, and heads of 64 channels have 48 that are turned."""
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10_000.0,
        "partial_rotary_factor": 0.75,
        "short_factor": [1.0] * 24,
        "long_factor": [2.0] * 24,
        "original_max_position_embeddings": 64,
    }
    more = {"rope_parameters": rope, "original_max_position_embeddings": 64}
    checkpoint = make_tiny_checkpoint(tmp_path / "checkpoint", "phi3", hidden=256, more=more)
    layers = exported(checkpoint, tmp_path / "onnx")
    assert {(layer.turned, layer.interleaved) for layer in layers} == {(48, False)}
    partner = partners(np.arange(64, dtype=np.float32)[None, None], layers[0])[0, 0]
    assert partner.tolist() == [*range(24, 48), *range(24), *range(48, 64)]


def test_layers_without_positions_turn_nothing(tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]) -> None:
    """As SmolLM3 has it: every fourth layer."""
    config = tf.SmolLM3Config(**tiny_sizes(layers=4))
    checkpoint = make_tiny_checkpoint(tmp_path / "checkpoint", config=config)
    head = config.hidden_size // config.num_attention_heads
    assert [layer.turned for layer in exported(checkpoint, tmp_path / "onnx")] == [head, head, head, 0]


def table(width: int) -> ir.Value:
    return ir.Value(name="cos", const_value=ir.tensor(np.zeros((64, width), np.float32), name="cos"))


def chosen(widths: Sequence[int]) -> ir.Value:
    """The second output of an ``If`` between tables of these widths."""
    branches = {}
    for name, width in zip(("then_branch", "else_branch"), widths, strict=True):
        constants = [
            ir.node("Constant", [], {"value": ir.tensor(np.zeros((64, columns), np.float32))}) for columns in (5, width)
        ]
        branches[name] = ir.Graph([], [node.outputs[0] for node in constants], nodes=constants)
    return ir.node("If", [ir.Value(name="longer")], branches, num_outputs=2).outputs[1]


def attention(key: ir.Value, cosines: ir.Value | None, **attributes: int) -> ir.Node:
    return ir.node(
        "GroupQueryAttention",
        [ir.Value(name="query"), key, *[None] * 5, cosines],
        attributes,
        domain="com.microsoft",
        name="attn",
    )


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("cosines", [table(24), chosen([24, 24])], ids=["constant", "chosen by length"])
def test_attention_that_turns_the_keys_tells_by_its_table(cosines: ir.Value, interleaved: int) -> None:
    node = attention(ir.Value(name="key"), cosines, do_rotary=1, rotary_interleaved=interleaved)
    assert turned_channels(node) == (48, bool(interleaved))


@pytest.mark.parametrize(("domain", "place"), [("", 1), ("com.microsoft", 2)])
def test_a_rotary_embedding_before_attention_tells_by_its_table(domain: str, place: int) -> None:
    inputs: list[ir.Value | None] = [ir.Value(name="projected"), ir.Value(name="a"), ir.Value(name="b")]
    inputs[place] = table(16)
    rotary = ir.node("RotaryEmbedding", inputs, {"interleaved": 1}, domain=domain)
    reshaped = ir.node("Reshape", [rotary.outputs[0], ir.Value(name="shape")])
    assert turned_channels(attention(reshaped.outputs[0], None, do_rotary=0)) == (32, True)


def test_attention_that_does_not_turn_the_keys_does_not_read_its_table() -> None:
    assert turned_channels(attention(ir.Value(name="key"), table(24), do_rotary=0)) == (0, False)


@pytest.mark.parametrize("cosines", [ir.Value(name="cos"), chosen([24, 32]), None], ids=["input", "widths", "none"])
def test_a_table_that_does_not_tell_is_refused(cosines: ir.Value | None) -> None:
    with pytest.raises(PassRefused, match=r"rotary embedding of attn reads '.*', which is no constant table"):
        turned_channels(attention(ir.Value(name="key"), cosines, do_rotary=1))
