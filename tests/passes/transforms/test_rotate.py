from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import PassRefused
from olivine.passes.store.digests import sha256_file
from olivine.passes.store.safetensors_stream import tensor_files
from olivine.passes.transforms.orthogonal import RandomHadamard
from olivine.passes.transforms.rotate import Rotate

SUPPORTED = ("llama", "mistral", "qwen2", "qwen3", "phi3", "smollm3")


def rotated(checkpoint: Path, to: Path, seed: int = 0) -> Path:
    to.mkdir()
    Rotate(seed).apply(checkpoint, to)
    return to


def logits(checkpoint: Path) -> np.ndarray:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    with torch.no_grad():
        return np.asarray(model(torch.arange(4, 40).reshape(1, -1)).logits.numpy())


def tensors(checkpoint: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    files = sorted(set(tensor_files(checkpoint).values()))
    return {name: array for file in files for name, array in load_file(checkpoint / file).items()}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", SUPPORTED)
def test_logits_stay(architecture: str, tied: bool, tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]) -> None:
    checkpoint = make_tiny_checkpoint(tmp_path / "before", architecture, hidden=48, tied=tied)
    after = rotated(checkpoint, tmp_path / "after")
    np.testing.assert_allclose(logits(after), logits(checkpoint), atol=1e-4)


def test_norm_weights_become_ones_and_weights_change(tiny_llama: Path, tmp_path: Path) -> None:
    before, after = tensors(tiny_llama), tensors(rotated(tiny_llama, tmp_path / "after"))
    norms = [name for name in after if "norm" in name]
    assert len(norms) == 5
    assert all((after[name] == 1).all() for name in norms)
    assert not any(np.allclose(after[name], before[name]) for name in before)


def test_norms_inside_attention_stay(tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]) -> None:
    checkpoint = make_tiny_checkpoint(tmp_path / "before", "qwen3")
    before, after = tensors(checkpoint), tensors(rotated(checkpoint, tmp_path / "after"))
    name = "model.layers.0.self_attn.q_norm.weight"
    assert (before[name] == after[name]).all()


def test_head_is_untied(tiny_llama: Path, tmp_path: Path) -> None:
    after = rotated(tiny_llama, tmp_path / "after")
    config = json.loads((after / "config.json").read_text())
    assert config["tie_word_embeddings"] is False
    assert "lm_head.weight" in tensors(after)


def test_biases_of_layers_that_write_are_rotated(tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]) -> None:
    from transformers import AutoModelForCausalLM, LlamaConfig

    checkpoint = make_tiny_checkpoint(tmp_path / "before")
    config = LlamaConfig.from_pretrained(checkpoint, attention_bias=True, mlp_bias=True)
    model = AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_()
    model.save_pretrained(checkpoint)
    after = rotated(checkpoint, tmp_path / "after")
    np.testing.assert_allclose(logits(after), logits(checkpoint), atol=1e-4)


def test_sharded_checkpoint_stays_sharded(tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]) -> None:
    checkpoint = make_tiny_checkpoint(tmp_path / "before", max_shard_size="100KB")
    after = rotated(checkpoint, tmp_path / "after")
    assert len(list(after.glob("*.safetensors"))) == len(list(checkpoint.glob("*.safetensors"))) > 1
    index = json.loads((after / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(array.nbytes for array in tensors(after).values())
    np.testing.assert_allclose(logits(after), logits(checkpoint), atol=1e-4)


def test_bfloat16_checkpoint_is_written_in_float32(tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    checkpoint = make_tiny_checkpoint(tmp_path / "before")
    AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16).save_pretrained(checkpoint)
    after = rotated(checkpoint, tmp_path / "after")
    assert json.loads((after / "config.json").read_text())["dtype"] == "float32"
    np.testing.assert_allclose(logits(after), logits(checkpoint), atol=1e-4)


def test_repetition_gives_the_same_bytes_and_another_seed_others(tiny_llama: Path, tmp_path: Path) -> None:
    one, two, other = (rotated(tiny_llama, tmp_path / n, seed) for n, seed in [("a", 0), ("b", 0), ("c", 1)])
    for file in one.iterdir():
        assert sha256_file(file) == sha256_file(two / file.name)
    assert sha256_file(one / "model.safetensors") != sha256_file(other / "model.safetensors")


def test_input_is_unchanged(tiny_llama: Path, tmp_path: Path) -> None:
    before = {p.name: sha256_file(p) for p in tiny_llama.iterdir()}
    after = rotated(tiny_llama, tmp_path / "after")
    assert {p.name: sha256_file(p) for p in tiny_llama.iterdir()} == before
    assert set(before) == {p.name for p in after.iterdir()}


def test_gemma_is_refused_with_the_reason(tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]) -> None:
    checkpoint = make_tiny_checkpoint(tmp_path / "before", "gemma3")
    with pytest.raises(PassRefused, match=r"Gemma3ForCausalLM: its norms scale by \(1 \+ weight\)"):
        rotated(checkpoint, tmp_path / "after")


@pytest.mark.parametrize(("architecture", "reason"), [("PhiForCausalLM", "LayerNorm"), ("XForCausalLM", "not known")])
def test_other_architectures_are_refused(architecture: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    with pytest.raises(PassRefused, match=reason):
        Rotate().apply(tmp_path, tmp_path)


def test_unknown_tensor_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    checkpoint = tmp_path / "before"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text((tiny_llama / "config.json").read_text())
    strange = {"model.layers.0.mlp.experts.0.weight": np.zeros((4, 64), np.float32)}
    save_file(tensors(tiny_llama) | strange, checkpoint / "model.safetensors")
    with pytest.raises(PassRefused, match=r"experts\.0"):
        rotated(checkpoint, tmp_path / "after")


def test_axis_decides_and_pipeline_begins_with_it() -> None:
    assert Rotate.from_choice({"rotate": True}) == Rotate()
    assert Rotate.from_choice({"rotate": False}) is None
    assert LANGUAGE.passes[0].name == "rotate"


def test_rotated_checkpoint_is_refused() -> None:
    assert Rotate().refuse(frozenset({"checkpoint"})) is None
    assert "already" in str(Rotate().refuse(frozenset({"checkpoint", "rotated"})))


@settings(deadline=None, max_examples=30)
@given(size=st.integers(1, 200), seed=st.integers(0, 2**31))
def test_random_hadamard_is_orthogonal(size: int, seed: int) -> None:
    q = RandomHadamard(size, seed).rotate(np.eye(size))
    np.testing.assert_allclose(q @ q.T, np.eye(size), atol=1e-12)


def test_random_hadamard_mixes_every_feature_into_every_other() -> None:
    q = RandomHadamard(64).rotate(np.eye(64))
    np.testing.assert_allclose(np.abs(q), 1 / 8, atol=1e-12)
