"""GGUF files: all tensors or a refusal, parts joined, and the fields that transformers passes over."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_gguf import tiny_gguf
from transformers import AutoModelForCausalLM

from olivine.passes.errors import SourceError
from olivine.passes.sources.source import resolve
from olivine.passes.store.digests import sha256_file

Make = Callable[..., Path]
IDS = torch.arange(4, 204)[None]


def converted(path: Path, to: Path) -> dict[str, Any]:
    to.mkdir()
    resolve(str(path)).materialize(to)
    config: dict[str, Any] = json.loads((to / "config.json").read_text())
    return config


def says_the_same(folder: Path, checkpoint: Path) -> None:
    models = [AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32) for place in (folder, checkpoint)]
    with torch.no_grad():
        found, expected = (model(IDS).logits.numpy() for model in models)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "phi3", "gemma3"])
def test_a_file_says_what_its_checkpoint_says(architecture: str, tmp_path: Path, make_tiny_checkpoint: Make) -> None:
    checkpoint = make_tiny_checkpoint(tmp_path / "checkpoint", architecture)
    converted(tiny_gguf(checkpoint, tmp_path / "tiny.gguf"), tmp_path / "to")
    says_the_same(tmp_path / "to", checkpoint)


def test_missing_tensors_are_named_and_not_made_up(tiny_llama: Path, tmp_path: Path) -> None:
    path = tiny_gguf(tiny_llama, tmp_path / "tiny.gguf", without={"blk.1.ffn_up.weight"})
    with pytest.raises(SourceError, match=r"1 missing \(model\.layers\.1\.mlp\.up_proj\.weight\)"):
        converted(path, tmp_path / "to")


def test_tensors_that_the_architecture_has_not_are_named(tiny_llama: Path, tmp_path: Path) -> None:
    path = tiny_gguf(tiny_llama, tmp_path / "tiny.gguf", tensors={"blk.0.attn_q.bias": [0.5] * 64})
    with pytest.raises(SourceError, match=r"1 left over \(blk\.0\.attn_q\.bias\)"):
        converted(path, tmp_path / "to")


@pytest.mark.parametrize("given", [1, 2, 3])
def test_a_split_file_is_joined_whichever_part_is_given(given: int, tiny_llama: Path, tmp_path: Path) -> None:
    first = tiny_gguf(tiny_llama, tmp_path / "tiny.gguf", parts=3)
    whole = tiny_gguf(tiny_llama, tmp_path / "whole.gguf")
    part = first.with_name(f"tiny-{given:05d}-of-00003.gguf")
    source = resolve(str(part))
    assert source.key == resolve(str(first)).key
    assert source.weight_bytes > 4 * whole.stat().st_size
    converted(part, tmp_path / "joined")
    converted(whole, tmp_path / "to")
    joined, plain = (sha256_file(tmp_path / name / "model.safetensors") for name in ("joined", "to"))
    assert joined == plain


def test_a_split_file_follows_every_part(tiny_llama: Path, tmp_path: Path) -> None:
    first = tiny_gguf(tiny_llama, tmp_path / "tiny.gguf", parts=2)
    before = resolve(str(first)).key
    second = first.with_name("tiny-00002-of-00002.gguf")
    second.write_bytes(second.read_bytes()[:-1] + b"\x01")
    assert resolve(str(first)).key != before


def test_missing_parts_are_named_before_any_work(tiny_llama: Path, tmp_path: Path) -> None:
    first = tiny_gguf(tiny_llama, tmp_path / "tiny.gguf", parts=2)
    first.with_name("tiny-00002-of-00002.gguf").unlink()
    with pytest.raises(SourceError, match=r"1 of its 2 parts are not beside it: tiny-00002-of-00002\.gguf"):
        resolve(str(first))


def test_a_renamed_part_says_how_parts_are_called(tiny_llama: Path, tmp_path: Path) -> None:
    first = tiny_gguf(tiny_llama, tmp_path / "tiny.gguf", parts=2)
    with pytest.raises(SourceError, match=r"part 1 of 2 of .*NAME-00001-of-00002\.gguf"):
        resolve(str(first.rename(tmp_path / "model.gguf")))


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 8.0, "beta_slow": 2.0}


def scaled(folder: Path, make: Make, rope: dict[str, Any], architecture: str = "llama", **more: Any) -> Path:
    return make(folder, architecture, more={"rope_parameters": {**rope, "rope_theta": 10_000.0}, **more})


def test_linear_scaling_of_the_fields_counts(tmp_path: Path, make_tiny_checkpoint: Make) -> None:
    checkpoint = scaled(tmp_path / "checkpoint", make_tiny_checkpoint, {"rope_type": "linear", "factor": 4.0})
    fields = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    config = converted(tiny_gguf(checkpoint, tmp_path / "tiny.gguf", fields=fields), tmp_path / "to")
    assert config["rope_parameters"]["factor"] == 4.0
    says_the_same(tmp_path / "to", checkpoint)


def test_yarn_of_the_fields_counts(tmp_path: Path, make_tiny_checkpoint: Make) -> None:
    checkpoint = scaled(tmp_path / "checkpoint", make_tiny_checkpoint, YARN, "qwen2")
    fields = {
        "qwen2.rope.scaling.type": "yarn",
        "qwen2.rope.scaling.factor": 4.0,
        "qwen2.rope.scaling.original_context_length": 64,
        "qwen2.rope.scaling.yarn_beta_fast": 8.0,
        "qwen2.rope.scaling.yarn_beta_slow": 2.0,
    }
    converted(tiny_gguf(checkpoint, tmp_path / "tiny.gguf", fields=fields), tmp_path / "to")
    says_the_same(tmp_path / "to", checkpoint)


def test_frequencies_that_are_stored_as_a_tensor_count(tmp_path: Path, make_tiny_checkpoint: Make) -> None:
    rope = {**LLAMA3, "original_max_position_embeddings": 64}
    checkpoint = scaled(tmp_path / "checkpoint", make_tiny_checkpoint, rope)
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    factors = (1 / 10_000.0 ** (np.arange(0, 16, 2) / 16)) / model.model.rotary_emb.inv_freq.numpy()
    path = tiny_gguf(checkpoint, tmp_path / "tiny.gguf", tensors={"rope_freqs.weight": factors.tolist()})
    converted(path, tmp_path / "to")
    says_the_same(tmp_path / "to", checkpoint)


@pytest.mark.parametrize("trained_on", [64, 256])
def test_long_and_short_factors_count(trained_on: int, tmp_path: Path, make_tiny_checkpoint: Make) -> None:
    short, long = [1.0 + n / 8 for n in range(8)], [2.0 + n / 4 for n in range(8)]
    rope = {"rope_type": "longrope", "short_factor": short, "long_factor": long}
    rope["original_max_position_embeddings"] = trained_on
    more = {"original_max_position_embeddings": trained_on}
    checkpoint = scaled(tmp_path / "checkpoint", make_tiny_checkpoint, rope, "phi3", **more)
    path = tiny_gguf(
        checkpoint,
        tmp_path / "tiny.gguf",
        fields={"phi3.rope.scaling.original_context_length": trained_on},
        tensors={"rope_factors_long.weight": long, "rope_factors_short.weight": short},
    )
    config = converted(path, tmp_path / "to")
    assert config["original_max_position_embeddings"] == trained_on
    says_the_same(tmp_path / "to", checkpoint)


def test_the_window_of_phi3_counts(tmp_path: Path, make_tiny_checkpoint: Make) -> None:
    checkpoint = make_tiny_checkpoint(tmp_path / "checkpoint", "phi3", more={"sliding_window": 64})
    assert converted(tiny_gguf(checkpoint, tmp_path / "tiny.gguf"), tmp_path / "to")["sliding_window"] == 64
    says_the_same(tmp_path / "to", checkpoint)


def test_a_mistral_gets_no_window_that_its_file_does_not_state(tmp_path: Path, make_tiny_checkpoint: Make) -> None:
    checkpoint = make_tiny_checkpoint(tmp_path / "checkpoint", "mistral")
    path = tiny_gguf(checkpoint, tmp_path / "tiny.gguf", fields={"general.name": "mistral"})
    assert converted(path, tmp_path / "to")["model_type"] == "llama"
    says_the_same(tmp_path / "to", checkpoint)


def test_the_size_of_a_head_is_the_files(tmp_path: Path, make_tiny_checkpoint: Make) -> None:
    checkpoint = make_tiny_checkpoint(tmp_path / "checkpoint", "qwen3")  # 16; transformers' is 128
    assert converted(tiny_gguf(checkpoint, tmp_path / "tiny.gguf"), tmp_path / "to")["head_dim"] == 16


def test_scaling_that_transformers_has_no_word_for_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    fields = {"llama.rope.scaling.type": "spiral", "llama.rope.scaling.factor": 4.0}
    with pytest.raises(SourceError, match="RoPE scaling of type 'spiral' that transformers has no word for"):
        converted(tiny_gguf(tiny_llama, tmp_path / "tiny.gguf", fields=fields), tmp_path / "to")


def test_only_files_that_state_more_get_other_keys(tiny_llama: Path, tmp_path: Path) -> None:
    from olivine.passes.sources.source import _converters
    from olivine.passes.store.digests import digest

    plain = tiny_gguf(tiny_llama, tmp_path / "plain.gguf")
    assert resolve(str(plain)).key == digest(["gguf", sha256_file(plain), _converters()])
    fields = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    stated = tiny_gguf(tiny_llama, tmp_path / "stated.gguf", fields=fields)
    assert resolve(str(stated)).key != digest(["gguf", sha256_file(stated), _converters()])
