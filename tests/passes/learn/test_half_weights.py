from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.modules.module import register_module_forward_hook

from olivine.passes.artifact import ModelArtifact
from olivine.passes.learn.calibration import store_tokens
from olivine.passes.learn.gradients import capture_gradients
from olivine.passes.learn.half_weights import half_type
from olivine.passes.store.cache import Cache
from tests.tiny import ARCHITECTURES, tiny_checkpoint

TOKENS = np.random.default_rng(0).integers(4, 300, size=(1, 40)).astype(np.int32)


def stored_as(folder: Path, *types: torch.dtype) -> Path:
    """A checkpoint whose weights are converted to each type in turn."""
    for path in folder.glob("*.safetensors"):
        weights = load_file(path)
        for kind in types:
            weights = {name: weight.to(kind) for name, weight in weights.items()}
        save_file(weights, path, metadata={"format": "pt"})
    return folder


def powers(folder: Path, cache: Cache) -> dict[str, np.ndarray]:
    artifact = ModelArtifact(folder, folder.name, frozenset({"checkpoint"}))
    found = capture_gradients(artifact.key, lambda: artifact, store_tokens(cache, TOKENS), cache)
    return dict(found.powers)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_are_those_of_the_widened_checkpoint_to_the_bit(architecture: str, tmp_path: Path) -> None:
    half, wide = (tiny_checkpoint(tmp_path / name, architecture) for name in ("half", "wide"))
    cache = Cache(tmp_path / "cache")
    own = powers(stored_as(half, torch.bfloat16), cache)
    expected = powers(stored_as(wide, torch.bfloat16, torch.float32), cache)
    assert own.keys() == expected.keys()
    for name, power in expected.items():
        assert np.array_equal(own[name], power), name


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)
def test_one_module_at_a_time_is_widened(half: torch.dtype, tmp_path: Path) -> None:
    folder = stored_as(tiny_checkpoint(tmp_path / "half"), half)
    wide: list[int] = []

    def count(module: torch.nn.Module, inputs: object, outputs: object) -> None:
        wide.append(sum(weight.dtype == torch.float32 for weight in module.parameters()))

    handle = register_module_forward_hook(count)
    try:
        powers(folder, Cache(tmp_path / "cache"))
    finally:
        handle.remove()
    assert max(wide) == 1


@pytest.mark.parametrize(
    ("types", "expected"),
    [((torch.bfloat16,), torch.bfloat16), ((torch.float16,), torch.float16), ((torch.float32,), None)],
    ids=["bfloat16", "float16", "float32"],
)
def test_the_type_is_that_of_all_weights(
    types: tuple[torch.dtype, ...], expected: torch.dtype | None, tmp_path: Path
) -> None:
    assert half_type(stored_as(tiny_checkpoint(tmp_path / "checkpoint"), *types)) == expected


def test_weights_of_several_types_have_none(tmp_path: Path) -> None:
    folder = stored_as(tiny_checkpoint(tmp_path / "checkpoint"), torch.bfloat16)
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights["model.norm.weight"] = weights["model.norm.weight"].float()
    save_file(weights, path, metadata={"format": "pt"})
    assert half_type(folder) is None
    assert powers(folder, Cache(tmp_path / "cache"))
