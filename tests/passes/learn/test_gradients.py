from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from olivine.passes.artifact import ModelArtifact
from olivine.passes.errors import PassRefused
from olivine.passes.learn.calibration import store_tokens
from olivine.passes.learn.gradients import MOST_WINDOWS, OutputGradients, capture_gradients
from olivine.passes.store.cache import Cache
from tests.tiny import tiny_checkpoint

TOKENS = np.random.default_rng(0).integers(4, 300, size=(MOST_WINDOWS, 200)).astype(np.int32)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> ModelArtifact:
    folder = tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "llama", layers=2)
    return ModelArtifact(folder, "tiny", frozenset({"checkpoint"}))


@pytest.fixture(scope="module")
def gradients(checkpoint: ModelArtifact, tmp_path_factory: pytest.TempPathFactory) -> OutputGradients:
    cache = Cache(tmp_path_factory.mktemp("cache"))
    return capture_gradients(checkpoint.key, lambda: checkpoint, store_tokens(cache, TOKENS), cache)


@pytest.mark.parametrize("name", ["layers.0/gate_proj", "layers.0/q_proj", "layers.1/down_proj", "layers.1/o_proj"])
def test_half_of_the_gradient_power_is_the_divergence_of_noise(
    checkpoint: ModelArtifact, gradients: OutputGradients, name: str
) -> None:
    """White noise on what a layer puts out; the divergence it makes is the truth."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint.path).eval()
    tokens = torch.from_numpy(TOKENS.astype(np.int64))
    number, role = name.removeprefix("layers.").split("/")
    part = "mlp" if role in ("gate_proj", "down_proj") else "self_attn"
    generator = torch.Generator().manual_seed(1)
    size = 1e-2
    with torch.no_grad():
        clean = model(tokens).logits.log_softmax(-1)
        model.get_submodule(f"model.layers.{number}.{part}.{role}").register_forward_hook(
            lambda m, given, found: found + size * torch.randn(found.shape, generator=generator)
        )
        noisy = [model(tokens).logits.log_softmax(-1) for _ in range(8)]
    truth = float(np.mean([(clean.exp() * (clean - one)).sum(-1).mean() for one in noisy]))
    assert 0.5 * size**2 * gradients.powers[name].sum() == pytest.approx(truth, rel=0.25)


def test_the_power_of_the_head_is_the_variance_of_a_draw(checkpoint: ModelArtifact, gradients: OutputGradients) -> None:
    model = AutoModelForCausalLM.from_pretrained(checkpoint.path).eval()
    with torch.no_grad():
        p = model(torch.from_numpy(TOKENS.astype(np.int64))).logits.softmax(-1).flatten(0, 1)
    expected = (p * (1 - p)).mean(0).numpy()
    np.testing.assert_allclose(gradients.of("lm_head", {"lm_head": 320}), expected, rtol=1e-4)


def test_merged_projections_have_the_gradients_of_their_parts_in_order() -> None:
    parts = {f"layers.3/{role}_proj": np.full(size, size, np.float32) for role, size in (("q", 4), ("k", 2), ("v", 3))}
    found = OutputGradients(parts).of("layers.3/qkv_proj", {"layers.3/qkv_proj": 9})
    assert found.tolist() == [4, 4, 4, 4, 2, 2, 3, 3, 3]


@pytest.mark.parametrize(("path", "features"), [("layers.0/experts", 4), ("layers.0/q_proj", 5)])
def test_a_layer_that_the_checkpoint_does_not_have_is_named(path: str, features: int) -> None:
    known = OutputGradients({"layers.0/q_proj": np.ones(4, np.float32)})
    with pytest.raises(PassRefused, match=f"no linear layer that is {path}"):
        known.of(path, {path: features})


@pytest.mark.parametrize(
    ("role", "expected"),
    [("q", [0, 1, 2, 3]), ("k", [4, 5]), ("v", [6, 7]), ("gate", [10, 11, 12]), ("up", [13, 14, 15])],
)
def test_a_projection_is_cut_from_the_one_that_the_checkpoint_merges_it_into(role: str, expected: list[int]) -> None:
    """Phi3's checkpoint has qkv_proj and gate_up_proj alone."""
    merged = {"qkv_proj": np.arange(8, dtype=np.float32), "gate_up_proj": np.arange(10, 16, dtype=np.float32)}
    known = OutputGradients({f"layers.1/{whole}": power for whole, power in merged.items()})
    sizes = {f"layers.1/{part}_proj": n for part, n in {"q": 4, "k": 2, "v": 2, "gate": 3, "up": 3}.items()}
    assert known.of(f"layers.1/{role}_proj", sizes).tolist() == expected


def test_gradients_are_captured_once(checkpoint: ModelArtifact, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    key = store_tokens(cache, TOKENS[:, :16])
    first = capture_gradients(checkpoint.key, lambda: checkpoint, key, cache)
    gone = ModelArtifact(tmp_path / "gone", checkpoint.key, checkpoint.properties)
    second = capture_gradients(gone.key, lambda: gone, key, cache)
    assert all(np.array_equal(first.powers[path], second.powers[path]) for path in first.powers)
    assert len(first.powers) == 2 * 7 + 1


def test_a_model_that_caps_its_logits_is_differentiated_with_the_cap(tmp_path: Path) -> None:
    """A cap of a hundredth leaves nearly uniform predictions, and gradients far below those without it."""
    folder = tiny_checkpoint(tmp_path / "gemma", "gemma3", layers=2)
    cache = Cache(tmp_path / "cache")
    config = json.loads((folder / "config.json").read_text())
    powers = []
    for cap in (None, 0.01):
        (folder / "config.json").write_text(json.dumps({**config, "final_logit_softcapping": cap}))
        artifact = ModelArtifact(folder, f"cap {cap}", frozenset({"checkpoint"}))
        found = capture_gradients(artifact.key, partial(_itself, artifact), store_tokens(cache, TOKENS), cache)
        powers.append(found.powers["layers.0/down_proj"])
    assert powers[1].sum() < 1e-2 * powers[0].sum()


def _itself(artifact: ModelArtifact) -> ModelArtifact:
    return artifact
