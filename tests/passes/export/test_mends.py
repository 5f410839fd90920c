"""What the model builder does otherwise than transformers is mended, and nothing else is touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers as tf
from graph_logits import graph_logits
from tiny import tiny_sizes

from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import PassRefused
from olivine.passes.export.check import check_model
from olivine.passes.export.export import Export
from olivine.passes.export.mends import mends_of
from olivine.passes.pipeline import build
from olivine.passes.sources.content_hash import files_digest
from olivine.passes.sources.source import resolve
from olivine.passes.store.cache import Cache
from olivine.passes.store.digests import digest

SIZES = tiny_sizes()
IDS = np.random.default_rng(0).integers(4, 300, size=200).tolist()


def rope(kind: str, **more: Any) -> dict[str, Any]:
    return {"rope_type": kind, "rope_theta": 10_000.0, **more}


def factors(count: int) -> dict[str, Any]:
    steps = [n / count for n in range(count)]
    return {"short_factor": [1 + s for s in steps], "long_factor": [2 + 2 * s for s in steps]}


LINEAR = rope("linear", factor=4.0)
YARN = rope("yarn", factor=4.0, original_max_position_embeddings=64)
BETAS = {**YARN, "beta_fast": 8.0, "beta_slow": 2.0}
SCALES = {**YARN, "attention_factor": 1.3}
LLAMA3 = rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)
LONG = rope("longrope", original_max_position_embeddings=64, **factors(8))
GEMMA = {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 64}
WIDE = tiny_sizes(hidden=256, tied=False)

CASES: dict[str, tuple[Any, set[str]]] = {
    "llama linear": (tf.LlamaConfig(**SIZES, rope_parameters=LINEAR), {"rope"}),
    "llama yarn": (tf.LlamaConfig(**SIZES, rope_parameters=YARN), {"rope"}),
    "llama yarn with betas": (tf.LlamaConfig(**SIZES, rope_parameters=BETAS), {"rope"}),
    "llama yarn with a factor of attention": (tf.LlamaConfig(**SIZES, rope_parameters=SCALES), {"rope"}),
    "llama longrope": (tf.LlamaConfig(**SIZES, rope_parameters=LONG), {"rope"}),
    "llama llama3": (tf.LlamaConfig(**SIZES, rope_parameters=LLAMA3), set()),
    "llama dynamic": (tf.LlamaConfig(**SIZES, rope_parameters=rope("dynamic", factor=4.0)), set()),
    "llama proportional": (
        tf.LlamaConfig(**SIZES, rope_parameters=rope("proportional", partial_rotary_factor=0.5)),
        {"rope"},
    ),
    "mistral windows": (tf.MistralConfig(**SIZES, sliding_window=64), {"windows"}),
    "mistral windows and yarn": (
        tf.MistralConfig(**SIZES, sliding_window=64, rope_parameters=YARN),
        {"rope", "windows"},
    ),
    "mistral": (tf.MistralConfig(**SIZES, sliding_window=None), set()),
    "qwen2 yarn": (tf.Qwen2Config(**SIZES, rope_parameters=YARN), {"rope"}),
    "qwen2 windows": (
        tf.Qwen2Config(**SIZES, use_sliding_window=True, sliding_window=64, max_window_layers=1),
        set(),
    ),
    "qwen3 llama3": (tf.Qwen3Config(**SIZES, head_dim=16, rope_parameters=LLAMA3), {"rope"}),
    "phi": (tf.PhiConfig(**WIDE, rope_parameters=rope("default", partial_rotary_factor=0.5)), {"epsilon"}),
    "phi3 windows": (tf.Phi3Config(**SIZES, original_max_position_embeddings=256, sliding_window=64), {"windows"}),
    "phi3 longrope": (tf.Phi3Config(**SIZES, original_max_position_embeddings=64, rope_parameters=LONG), set()),
    "phi3 without a longer context": (tf.Phi3Config(**SIZES), set()),
    "gemma2": (tf.Gemma2Config(**SIZES, **GEMMA), set()),
    "gemma3 linear": (
        tf.Gemma3TextConfig(
            **tiny_sizes(layers=6),
            **GEMMA,
            rope_parameters={"full_attention": {**LINEAR, "rope_theta": 1e6}, "sliding_attention": rope("default")},
        ),
        {"rope"},
    ),
    "smollm3": (tf.SmolLM3Config(**tiny_sizes(layers=4)), {"no_rope_layers"}),
    "smollm3 windows and yarn": (
        tf.SmolLM3Config(**tiny_sizes(layers=4), use_sliding_window=True, sliding_window=64, rope_parameters=YARN),
        {"no_rope_layers", "rope"},
    ),
    "nemotron": (tf.NemotronConfig(**WIDE), {"epsilon"}),
    "nemotron yarn": (
        tf.NemotronConfig(**WIDE, rope_parameters={**YARN, "partial_rotary_factor": 0.5}),
        {"epsilon", "rope"},
    ),
    "olmo": (tf.OlmoConfig(**SIZES), {"epsilon", "layer_norm"}),
    "olmo clipped": (tf.OlmoConfig(**SIZES, clip_qkv=0.5), {"clip_qkv", "epsilon", "layer_norm"}),
    "granite without positions": (
        tf.GraniteMoeHybridConfig(
            **SIZES,
            shared_intermediate_size=128,
            num_local_experts=0,
            num_experts_per_tok=0,
            layer_types=["attention"] * 2,
            position_embedding_type="nope",
        ),
        {"no_rope_layers"},
    ),
    "granite longrope": (tf.GraniteConfig(**SIZES, attention_multiplier=0.1, rope_parameters=LONG), {"rope"}),
}


def transformers_logits(checkpoint: Path, ids: list[int]) -> np.ndarray:
    model = tf.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    with torch.no_grad():
        return np.asarray(model(torch.tensor([ids])).logits[0].numpy())


@pytest.mark.parametrize("name", CASES)
def test_a_mended_graph_is_the_model(name: str, tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]) -> None:
    config, mends = CASES[name]
    checkpoint = make_tiny_checkpoint(tmp_path / "checkpoint", config=config)
    assert set(mends_of(json.loads((checkpoint / "config.json").read_text()))) == mends
    (tmp_path / "onnx").mkdir()
    Export().apply(checkpoint, tmp_path / "onnx")
    expected = transformers_logits(checkpoint, IDS)
    atol = 2e-4 * max(1.0, float(expected.std()))
    np.testing.assert_allclose(graph_logits(tmp_path / "onnx", IDS), expected, atol=atol)
    np.testing.assert_allclose(graph_logits(tmp_path / "onnx", IDS, [70, 1, 60, 69]), expected, atol=atol)
    short = IDS[:50]  # within what scaled RoPE was trained on
    np.testing.assert_allclose(
        graph_logits(tmp_path / "onnx", short), transformers_logits(checkpoint, short), atol=atol
    )


@pytest.mark.parametrize("word", ["type", "rope_type"])
def test_scaling_in_the_words_of_older_configs_counts(
    word: str, tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]
) -> None:
    checkpoint = make_tiny_checkpoint(tmp_path / "checkpoint", config=CASES["llama yarn"][0])
    config = json.loads((checkpoint / "config.json").read_text())
    config["rope_theta"] = config["rope_parameters"].pop("rope_theta")
    config["rope_scaling"] = {word: config["rope_parameters"].pop("rope_type"), **config.pop("rope_parameters")}
    (checkpoint / "config.json").write_text(json.dumps(config))
    assert mends_of(config) == ("rope",)
    (tmp_path / "onnx").mkdir()
    Export().apply(checkpoint, tmp_path / "onnx")
    expected = transformers_logits(checkpoint, IDS)
    np.testing.assert_allclose(graph_logits(tmp_path / "onnx", IDS), expected, atol=2e-4)


@pytest.mark.parametrize("name", ["llama yarn", "llama longrope", "mistral windows", "smollm3", "olmo clipped"])
def test_mended_graphs_are_built_for_cuda_too(
    name: str, tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]
) -> None:
    checkpoint = make_tiny_checkpoint(tmp_path / "checkpoint", config=CASES[name][0])
    (tmp_path / "onnx").mkdir()
    Export(precision="fp16", provider="cuda").apply(checkpoint, tmp_path / "onnx")
    check_model(tmp_path / "onnx")


@pytest.mark.parametrize("fusion_level", ["none", "full"])
def test_projections_are_clipped_whether_merged_or_not(
    fusion_level: str, tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]
) -> None:
    checkpoint = make_tiny_checkpoint(tmp_path / "checkpoint", config=tf.OlmoConfig(**SIZES, clip_qkv=0.5))
    (tmp_path / "onnx").mkdir()
    Export(fusion_level=fusion_level).apply(checkpoint, tmp_path / "onnx")
    np.testing.assert_allclose(graph_logits(tmp_path / "onnx", IDS), transformers_logits(checkpoint, IDS), atol=2e-4)


@pytest.mark.parametrize("name", ["llama longrope", "olmo clipped", "smollm3", "mistral windows"])
def test_mended_graphs_are_quantized_like_others(
    name: str, tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]
) -> None:
    checkpoint = make_tiny_checkpoint(tmp_path / "checkpoint", config=CASES[name][0])
    choice = {"precision": "int8", "algorithm": "rtn", "block_size": 32, "prune_head": True}
    artifact = build(resolve(str(checkpoint)), LANGUAGE.compose(choice), Cache(tmp_path / "cache")).artifact
    last = graph_logits(artifact.path, IDS)[-1]
    expected = transformers_logits(checkpoint, IDS)[-1]
    assert np.corrcoef(last, expected)[0, 1] > 0.99


def test_a_mend_is_part_of_the_key_and_said_and_nothing_else_is(
    tiny_llama: Path, tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]
) -> None:
    plain = resolve(str(tiny_llama))
    assert plain.notes == ()
    assert plain.key == digest(["checkpoint", files_digest(p for p in tiny_llama.iterdir())])
    scaled = resolve(str(make_tiny_checkpoint(tmp_path / "scaled", config=CASES["llama yarn"][0])))
    assert scaled.notes == ("the model builder's graph is mended: RoPE tables are transformers' own",)
    assert scaled.key != digest(["checkpoint", files_digest(p for p in (tmp_path / "scaled").iterdir())])


def places(graph: Path) -> dict[str, list[tuple[str, str]]]:
    """Where the weights of a graph lie in its data file."""
    weights = onnx.load(graph, load_external_data=False).graph.initializer
    return {weight.name: [(entry.key, entry.value) for entry in weight.external_data] for weight in weights}


def test_the_builders_tables_stay_in_place_and_size(tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]) -> None:
    """Weights are where a graph without scaling has them: the data file differs in the tables alone."""
    folders = []
    for name, config in (("plain", tf.LlamaConfig(**SIZES)), ("yarn", CASES["llama yarn"][0])):
        checkpoint = make_tiny_checkpoint(tmp_path / name, config=config)
        folders.append(tmp_path / f"{name}-onnx")
        folders[-1].mkdir()
        Export().apply(checkpoint, folders[-1])
    plain, yarn = (places(folder / "model.onnx") for folder in folders)
    assert plain == yarn
    sizes = [(folder / "model.onnx.data").stat().st_size for folder in folders]
    assert sizes[0] == sizes[1]


def test_gpt_oss_with_another_rope_is_refused(tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]) -> None:
    config = tf.GptOssConfig(**SIZES, head_dim=16, num_local_experts=4, num_experts_per_tok=2, rope_parameters=LINEAR)
    checkpoint = make_tiny_checkpoint(tmp_path / "checkpoint", config=config)
    (tmp_path / "onnx").mkdir()
    with pytest.raises(PassRefused, match="GPT-OSS with YaRN as it was published alone"):
        Export().apply(checkpoint, tmp_path / "onnx")
