"""Masks: which recipes need a slow kernel, and the file that keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from olivine.evaluators.kernels.times import KernelTimes, Product
from olivine.evaluators.scenario.scenario import READY
from olivine.passes.catalog import LANGUAGE
from olivine.passes.kernel import DYNAMIC_INT8, DYNAMIC_INT8_BY_TOKEN, FLOAT, Kernel
from olivine.search.samplers.deployed_memory import DecoderSizes, DeployedMemory
from olivine.search.samplers.masks import Masks
from olivine.search.samplers.memory_mask import MemoryMask

GOOD4, SLOW8 = Kernel(4, 32, 4, "float"), Kernel(8, 32, 0, "float")
MASKS = Masks({SLOW8: "slow"})


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ({"precision": "fp32"}, None),
        ({"precision": "int8", "accuracy_level": 4}, None),
        ({"precision": "int8", "accuracy_level": 0}, "slow"),
        ({"precision": "int8", "accuracy_level": 0, "block_size": 64}, None),
        ({"precision": "int4", "accuracy_level": 0}, None),
        ({"precision": "int4", "accuracy_level": 0, "lm_head": "int8"}, "slow"),
        ({"precision": "mixed", "accuracy_level": 0, "int8_block_size": 32}, "slow"),
        ({"precision": "mixed", "accuracy_level": 0, "int8_block_size": 64}, None),
        ({"precision": "mixed", "accuracy_level": 0, "int8_block_size": 32, "int8_share": 0.0}, None),
        ({"provider": "webgpu", "precision": "int8", "accuracy_level": 0}, None),
    ],
)
def test_a_choice_is_masked_where_it_needs_a_slow_kernel(choice: dict[str, Any], reason: str | None) -> None:
    assert MASKS.reason(LANGUAGE.compose(choice)) == reason


def test_int8_activations_need_their_kernel_beside_that_of_the_other_layers() -> None:
    choice = {"precision": "int4", "activations": "int8", "lm_head": "fp32"}
    assert LANGUAGE.compose(choice).kernels == {DYNAMIC_INT8, GOOD4}
    assert LANGUAGE.compose({"precision": "mixed", "activations": "int8"}).kernels >= {DYNAMIC_INT8, GOOD4}


def test_ranges_by_token_need_a_kernel_of_their_own() -> None:
    choice = {"precision": "int8", "activations": "int8", "lm_head": "fp32"}
    kernels = {
        word: LANGUAGE.compose({**choice, "activation_range": word}).kernels
        for word in ("tensor", "token", "token_down")
    }
    assert DYNAMIC_INT8_BY_TOKEN not in kernels["tensor"]
    assert DYNAMIC_INT8 not in kernels["token"]
    assert kernels["token_down"] == kernels["tensor"] | kernels["token"]


def test_masks_survive_a_file(tmp_path: Path) -> None:
    assert Masks.read(tmp_path / "none") == Masks()
    times = KernelTimes({Product(FLOAT, 64, 64, 1): 1.0}, 1, "1.31.1")
    sizes = DecoderSizes({"layers.0/qkv_proj": (64, 96), "lm_head": (64, 512)}, 512, 64, 4, 256.0)
    memory = MemoryMask(6e8, DeployedMemory.of(sizes, READY["rag"]))
    for masks in (Masks({SLOW8: "slow"}, times=times), Masks(note="off"), Masks(memory=memory)):
        masks.write(tmp_path / "kernels.json")
        assert Masks.read(tmp_path / "kernels.json") == masks
