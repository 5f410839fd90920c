from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import transformers
from safetensors.torch import save_file

from olivine.passes.catalog import GRAPH
from olivine.passes.errors import SourceError, WrongGraph
from olivine.passes.graphs.encoder import export_encoder
from olivine.passes.graphs.encoder_proof import prove_encoder
from olivine.passes.graphs.graph_inputs import write_feeds
from olivine.passes.graphs.sentence import sentence_head
from olivine.passes.graphs.source import resolve_graph
from olivine.passes.parity.proof import proof_sentence
from olivine.passes.pipeline import build
from olivine.passes.store.cache import Cache

_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_PICTURES = {"image_size": 16, "patch_size": 8}


def saved(model: Any, folder: Path) -> Any:
    torch.manual_seed(0)
    model = model.eval()
    model.save_pretrained(folder)
    return model


def tiny_bert() -> transformers.BertModel:
    return transformers.BertModel(transformers.BertConfig(vocab_size=60, max_position_embeddings=40, **_SIZES))


def pooled_like_a_sentence_transformer(folder: Path, mode: str = "mean_tokens", *more: str) -> None:
    kinds = ("Transformer", "Pooling", *more, "Normalize")
    modules = [
        {"idx": n, "name": str(n), "path": f"{n}_{kind}" if n else "", "type": f"sentence_transformers.models.{kind}"}
        for n, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 32, f"pooling_mode_{mode}": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


def test_a_sentence_transformer_gives_its_pooled_embedding_at_any_size_and_fuses(tmp_path: Path) -> None:
    model = saved(tiny_bert(), tmp_path / "model")
    pooled_like_a_sentence_transformer(tmp_path / "model")
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 60, (3, 11))
    mask = np.ones_like(ids)
    mask[1, 5:] = 0
    feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    with torch.no_grad():
        hidden = model(**{name: torch.from_numpy(value) for name, value in feed.items()})[0].numpy()
    pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    expected = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    source, cache = resolve_graph(str(tmp_path / "model")), Cache(tmp_path / "cache")
    assert (source.kind, source.architecture, source.heads, source.hidden) == ("encoder", "bert", 4, 32)
    for level in ("none", "full"):
        built = build(source, GRAPH.compose({"fusion_level": level}), cache, sizes={"batch": 2, "sequence": 4})
        session = ort.InferenceSession(built.artifact.path / "model.onnx")
        np.testing.assert_allclose(session.run(["sentence_embedding"], feed)[0], expected, atol=2e-6)
    # Behind fused operators nobody infers types; what products read is quantized all the same.
    write_feeds(tmp_path / "feeds.npz", [feed])
    static = GRAPH.compose({"fusion_level": "full", "precision": "int8", "activations": "static"})
    folder = build(source, static, cache, samples=tmp_path / "feeds.npz").artifact.path
    operators = [node.op_type for node in onnx.load(folder / "model.onnx").graph.node]
    assert operators.count("QuantizeLinear") >= operators.count("MatMul") > 0


def classifier() -> Any:
    return transformers.ViTForImageClassification(transformers.ViTConfig(num_labels=5, **_SIZES, **_PICTURES))


def clip() -> Any:
    text = {**_SIZES, "vocab_size": 40, "max_position_embeddings": 16, "eos_token_id": 2}
    config = transformers.CLIPConfig(text_config=text, vision_config={**_SIZES, **_PICTURES}, projection_dim=24)
    return transformers.CLIPModel(config)


def whisper() -> Any:
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4}
    more = {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "decoder_attention_heads": 4, "max_source_positions": 20}
    config = transformers.WhisperConfig(
        vocab_size=60,
        num_mel_bins=8,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        **sizes,
        **more,
    )
    return transformers.WhisperModel(config)


def heads() -> dict[str, Any]:
    sizes = {"vocab_size": 60, "max_position_embeddings": 40, **_SIZES}
    return {
        "one logit": transformers.XLMRobertaForSequenceClassification(
            transformers.XLMRobertaConfig(num_labels=1, **sizes)
        ),
        "labels": transformers.BertForSequenceClassification(transformers.BertConfig(num_labels=5, **sizes)),
        "tokens": transformers.BertForTokenClassification(transformers.BertConfig(num_labels=5, **sizes)),
    }


@pytest.mark.parametrize(("head", "shape"), [("one logit", (2, 1)), ("labels", (2, 5)), ("tokens", (2, 4, 5))])
def test_heads_of_texts_give_their_logits_and_are_proven(head: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    saved(heads()[head], tmp_path / "model")
    export_encoder(tmp_path / "model", tmp_path / "model.onnx")
    assert prove_encoder(tmp_path / "model", tmp_path / "model.onnx")["output"] == "logits"
    session = ort.InferenceSession(tmp_path / "model.onnx")
    feed = {graph_input.name: np.ones((2, 4), np.int64) for graph_input in session.get_inputs()}
    assert session.run(["logits"], feed)[0].shape == shape


@pytest.mark.parametrize(
    ("make", "name", "shape", "output", "expected"),
    [
        (classifier, "pixel_values", (3, 3, 16, 16), "logits", lambda m, x: m(pixel_values=x).logits),
        (
            clip,
            "pixel_values",
            (3, 3, 16, 16),
            "image_embeds",
            lambda m, x: m.visual_projection(m.vision_model(pixel_values=x).pooler_output),
        ),
        (whisper, "input_features", (3, 8, 40), "last_hidden_state", lambda m, x: m.encoder(x).last_hidden_state),
    ],
    ids=["vit", "clip", "whisper"],
)
def test_other_encoders_give_what_transformers_gives(
    make: Any, name: str, shape: tuple[int, ...], output: str, expected: Any, tmp_path: Path
) -> None:
    model = saved(make(), tmp_path / "model")
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    with torch.no_grad():
        wanted = expected(model, torch.from_numpy(x)).numpy()
    built = build(resolve_graph(str(tmp_path / "model")), GRAPH.compose({}), Cache(tmp_path / "cache"))
    found = ort.InferenceSession(built.artifact.path / "model.onnx").run([output], {name: x})[0]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_pooling_that_is_not_known_is_named(tmp_path: Path) -> None:
    pooled_like_a_sentence_transformer(tmp_path, "max_tokens")
    with pytest.raises(SourceError, match="pooling_mode_max_tokens"):
        sentence_head(tmp_path)


def test_pooling_outside_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    modules = [{"path": "../elsewhere", "type": "sentence_transformers.models.Pooling"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(SourceError, match="outside"):
        sentence_head(folder)


def dense(folder: Path, activation: str = "torch.nn.modules.activation.Tanh") -> torch.nn.Linear:
    """A dense layer in a folder of a sentence transformer."""
    torch.manual_seed(1)
    layer = torch.nn.Linear(32, 16)
    folder.mkdir()
    config = {"in_features": 32, "out_features": 16, "bias": True, "activation_function": activation}
    (folder / "config.json").write_text(json.dumps(config))
    weights = {f"linear.{name}": value.detach().clone() for name, value in layer.named_parameters()}
    save_file(weights, folder / "model.safetensors")
    return layer


def test_dense_layers_behind_the_pooling_are_part_of_the_embedding_and_of_its_key(tmp_path: Path) -> None:
    model = saved(tiny_bert(), tmp_path / "model")
    pooled_like_a_sentence_transformer(tmp_path / "model", "mean_tokens", "Dense")
    layer = dense(tmp_path / "model" / "2_Dense")
    ids = np.random.default_rng(0).integers(0, 60, (2, 9))
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    with torch.no_grad():
        hidden = model(**{name: torch.from_numpy(value) for name, value in feed.items()})[0].mean(1)
        expected = torch.nn.functional.normalize(torch.tanh(layer(hidden)), dim=-1).numpy()
    source = resolve_graph(str(tmp_path / "model"))
    built = build(source, GRAPH.compose({}), Cache(tmp_path / "cache"), sizes={"batch": 2, "sequence": 4})
    session = ort.InferenceSession(built.artifact.path / "model.onnx")
    np.testing.assert_allclose(session.run(["sentence_embedding"], feed)[0], expected, atol=2e-6)
    save_file(
        {"linear.weight": torch.zeros(16, 32), "linear.bias": torch.zeros(16)},
        tmp_path / "model/2_Dense/model.safetensors",
    )
    assert resolve_graph(str(tmp_path / "model")).key != source.key


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors"),
        (lambda folder: save_file({"linear.weight": torch.zeros(3, 3)}, folder / "model.safetensors"), "are not those"),
        (lambda folder: (folder / "config.json").write_text('{"activation_function": "x.Softplus"}'), "not Softplus"),
    ],
)
def test_a_dense_layer_that_can_not_be_exported_is_refused(
    change: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    pooled_like_a_sentence_transformer(tmp_path, "mean_tokens", "Dense")
    dense(tmp_path / "2_Dense")
    change(tmp_path / "2_Dense")
    with pytest.raises(SourceError, match=message):
        sentence_head(tmp_path)


def test_modules_that_are_not_exported_are_named(tmp_path: Path) -> None:
    pooled_like_a_sentence_transformer(tmp_path, "mean_tokens", "LSTM")
    with pytest.raises(SourceError, match="this model has LSTM"):
        sentence_head(tmp_path)


def test_an_exported_encoder_is_proven_and_the_proof_is_kept(tmp_path: Path) -> None:
    saved(tiny_bert(), tmp_path / "model")
    pooled_like_a_sentence_transformer(tmp_path / "model")
    source, cache = resolve_graph(str(tmp_path / "model")), Cache(tmp_path / "cache")
    for _ in range(2):
        built = build(source, GRAPH.compose({"fusion_level": "full"}), cache, sizes={"batch": 2, "sequence": 4})
        (proof, *_) = [result.proof for result in built.passes]
        assert proof is not None
        assert proof["largest_difference"] < 1e-5 < proof["spread"]
        assert "over 6 inputs" in proof_sentence(proof)


@pytest.mark.parametrize("make", [tiny_bert, clip, classifier])
def test_a_graph_that_is_not_its_encoder_is_refused(make: Callable[[], Any], tmp_path: Path) -> None:
    saved(make(), tmp_path / "model")
    export_encoder(tmp_path / "model", tmp_path / "model.onnx")
    assert prove_encoder(tmp_path / "model", tmp_path / "model.onnx")["largest_difference"] < 1e-5
    graph = onnx.load(tmp_path / "model.onnx")
    weight = [w for w in graph.graph.initializer if len(w.dims) == 2 and w.dims[0] == w.dims[1]][-1]
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight).T.copy(), weight.name))
    onnx.save(graph, tmp_path / "model.onnx")
    with pytest.raises(WrongGraph, match=r"is not its model: '.*' differs by up to"):
        prove_encoder(tmp_path / "model", tmp_path / "model.onnx")
