"""The size of a graph as its headers tell it is that of the graph which is built."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import transformers
from tiny_graph import HIDDEN, INNER, ROWS, tiny_graph

from olivine.passes.errors import SourceError
from olivine.passes.graphs.graph_size import graph_size
from olivine.passes.graphs.source import resolve_graph

_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_CLIP = {"projection_dim": 16}


def saved(model: transformers.PreTrainedModel, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def exported_weights(model: Path, to: Path) -> int:
    to.mkdir()
    resolve_graph(str(model)).materialize(to)
    graph = onnx.load(to / "model.onnx").graph
    return sum(onnx.numpy_helper.to_array(weight).size for weight in graph.initializer)


def test_weights_of_an_onnx_file_are_told_apart_by_the_operator_that_reads_them(tmp_path: Path) -> None:
    source = resolve_graph(str(tiny_graph(tmp_path / "tiny.onnx")))
    size = graph_size(source, {"one": {"batch": 1, "sequence": 4}, "many": {"batch": 4, "sequence": 8}})
    assert (size.products, size.narrowing) == (2 * HIDDEN * INNER, HIDDEN * INNER)
    assert (size.embedding, size.other) == (ROWS * HIDDEN, INNER)
    assert size.activations_a_position == 2 * (HIDDEN + INNER)
    assert size.positions == {"one": 4, "many": 32}
    assert size.operations("one") == 2 * 4 * size.products


@pytest.mark.parametrize("family", ["bert", "vit", "clip", "whisper"])
def test_weights_of_a_checkpoint_are_near_those_of_its_graph(family: str, tmp_path: Path) -> None:
    configs = {
        "bert": lambda: transformers.BertConfig(vocab_size=600, max_position_embeddings=40, **_SIZES),
        "vit": lambda: transformers.ViTConfig(image_size=32, patch_size=8, **_SIZES),
        "clip": lambda: transformers.CLIPConfig(
            text_config={"vocab_size": 600, **_SIZES, **_CLIP},
            vision_config={"image_size": 32, "patch_size": 8, **_SIZES, **_CLIP},
            **_CLIP,
        ),
        "whisper": lambda: transformers.WhisperConfig(
            vocab_size=600,
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            num_mel_bins=8,
            max_source_positions=20,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
            max_target_positions=20,
        ),
    }
    classes = {
        "bert": transformers.BertModel,
        "vit": transformers.ViTModel,
        "clip": transformers.CLIPModel,
        "whisper": transformers.WhisperModel,
    }
    model = saved(classes[family](configs[family]()), tmp_path / "model")
    size = graph_size(resolve_graph(str(model)), {"two": {"batch": 2, "sequence": 6}})
    assert size.total == pytest.approx(exported_weights(model, tmp_path / "graph"), rel=0.1)
    assert size.positions == {"two": 2 * {"bert": 6, "vit": 16, "clip": 16, "whisper": 20}[family]}


def test_a_file_that_is_no_graph_says_so(tmp_path: Path) -> None:
    source = resolve_graph(str(tiny_graph(tmp_path / "tiny.onnx")))
    source.path.write_bytes(b"not a graph")
    with pytest.raises(SourceError, match="is no ONNX graph"):
        graph_size(source, {})
