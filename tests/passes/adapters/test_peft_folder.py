"""What a PEFT folder may hold: plain LoRA of this model, told in one sentence where it is something else."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from safetensors.numpy import load_file, save_file
from tiny_lora import tiny_lora

from olivine.passes.adapters.adapter_file import graph_factors
from olivine.passes.adapters.adapter_set import AdapterSet
from olivine.passes.adapters.slots import Place
from olivine.passes.errors import UsageError

Q = "model.layers.0.self_attn.q_proj"
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
Change = Callable[[dict[str, Any]], object]


def read(checkpoint: Path, folder: Path) -> AdapterSet:
    return AdapterSet.read(checkpoint, {"legal": folder})


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"peft_type": "IA3"}, "it is IA3, not LORA"),
        ({"peft_type": "LOHA"}, "it is LOHA, not LORA"),
        ({"use_dora": True}, "use_dora: DoRA also scales the columns of each weight"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save: whole modules were trained beside it"),
        ({"bias": "lora_only"}, "bias lora_only: biases were trained beside it"),
        ({"lora_bias": True}, "lora_bias: its products have biases"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices: single rows of the embedding"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights pissa_niter_4: it belongs to a base whose weights"),
        ({"lora_alpha": "much"}, "adapter_config.json has the lora_alpha 'much'; a finite number is what fits"),
        ({"lora_alpha": True}, "has the lora_alpha True; a finite number is what fits"),
        ({"lora_alpha": float("nan")}, "has the lora_alpha nan; a finite number is what fits"),
        ({"lora_alpha": 10**400}, "a finite number is what fits"),
        ({"alpha_pattern": {"*q_proj": 8}}, "has the key '*q_proj' in alpha_pattern, which is no regular expression"),
        ({"alpha_pattern": {"q_proj": "8"}}, "{'q_proj': '8'}; an object of names and finite numbers is what fits"),
        ({"alpha_pattern": [["q_proj", 8]]}, "an object of names and finite numbers is what fits"),
        ({"use_rslora": "false"}, "has the use_rslora 'false'; true or false is what fits"),
        ({"use_dora": "false"}, "has the use_dora 'false'; true or false is what fits"),
        ({"bias": ["none"]}, "has the bias ['none']; a word, \"none\" is what fits"),
        ({"init_lora_weights": 3}, "has the init_lora_weights 3; true, false or a word is what fits"),
        ({"base_model_name_or_path": 7}, "has the base_model_name_or_path 7; a word is what fits"),
        ({"peft_type": ["LORA"]}, "has the peft_type ['LORA']"),
    ],
)
def test_what_is_no_plain_lora_is_refused(config: dict[str, Any], said: str, tiny_llama: Path, tmp_path: Path) -> None:
    folder = tiny_lora(tmp_path / "lora", tiny_llama, ("q_proj",), **{"alpha": 8, **config})
    about = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**about, **config}))
    with pytest.raises(UsageError, match=re.escape(said)) as caught:
        read(tiny_llama, folder)
    assert str(caught.value).startswith(f"--adapter legal={folder}")


def rename(old: str, new: str) -> Change:
    return lambda tensors: [tensors.update({name.replace(old, new): tensors.pop(name)}) for name in list(tensors)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (rename("layers.1.", "layers.7."), "is an adapter of another model: this one has no 'model.layers.7.self_attn"),
        (
            rename("q_proj", "query_key_value"),
            "another model: this one has no 'model.layers.0.self_attn.query_key_value'",
        ),
        (rename(f"{Q}.lora_A", f"{Q}.lora_E"), f"tensor 'base_model.model.{Q}.lora_E.weight' is no matrix of LoRA"),
        (
            rename("model.layers.0.self_attn.q_proj", "model.embed_tokens"),
            "adds to 'model.embed_tokens', which lies outside of the decoder's layers",
        ),
        (rename(Q, "lm_head"), "adds to 'lm_head', which lies outside of the decoder's layers. Merge it"),  # not stored
        (lambda tensors: tensors.pop(f"base_model.model.{Q}.lora_B.weight"), f"'{Q}' has lora_A alone"),
        (
            lambda tensors: tensors.update({f"base_model.model.{Q}.lora_B.weight": np.zeros((64, 3), np.float32)}),
            "which are no product of two matrices",
        ),
        (
            lambda tensors: tensors.update(
                {f"base_model.model.{Q}.lora_A.weight": np.full((4, 64), np.nan, np.float32)}
            ),
            "numbers that are not finite",
        ),
        (lambda tensors: tensors.clear(), "holds no tensor"),
    ],
)
def test_tensors_that_do_not_fit_are_named(change: Change, said: str, tiny_llama: Path, tmp_path: Path) -> None:
    folder = tiny_lora(tmp_path / "lora", tiny_llama, ("q_proj",))
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(UsageError, match=re.escape(said)):
        read(tiny_llama, folder)


def with_weights(checkpoint: Path, to: Path, more: dict[str, tuple[int, int]]) -> Path:
    """A copy of a checkpoint with further weights of some shapes."""
    shutil.copytree(checkpoint, to)
    weights = load_file(to / "model.safetensors")
    extra = {f"{name}.weight": np.zeros(shape, np.float32) for name, shape in more.items()}
    save_file({**weights, **extra}, to / "model.safetensors", {"format": "pt"})
    return to


def test_modules_that_a_path_does_not_tell_apart_are_refused(tiny_llama: Path, tmp_path: Path) -> None:
    shared, expert = (f"model.layers.1.mlp.{part}.gate_proj" for part in ("shared_expert", "experts.0"))
    checkpoint = with_weights(tiny_llama, tmp_path / "moe", {shared: (64, 64), expert: (64, 64)})
    folder = tiny_lora(tmp_path / "lora", checkpoint, ("gate_proj",), layers=(1,))
    said = "the exported graph can't tell from 2 more of its layer that end alike, such as 'model.layers.1.mlp."
    with pytest.raises(UsageError, match=re.escape(said)):
        read(checkpoint, folder)
    elsewhere = tiny_lora(tmp_path / "other", checkpoint, ("gate_proj", "q_proj"), layers=(0,))
    assert len(read(checkpoint, elsewhere).adapters[0].factors) == 2


def test_layers_of_a_vision_tower_are_none_of_the_decoder(tiny_llama: Path, tmp_path: Path) -> None:
    vision = "vision_tower.encoder.layers.0.self_attn.q_proj"
    checkpoint = with_weights(tiny_llama, tmp_path / "vision", {vision: (48, 48)})
    folder = tiny_lora(tmp_path / "lora", tiny_llama, ("q_proj", "v_proj"))
    adapters = read(checkpoint, folder)
    found = {path: Place(64, 128, ir.DataType.FLOAT) for path in ("layers.0/qkv_proj", "layers.1/qkv_proj")}
    assert set(graph_factors(adapters.adapters[0].factors, adapters.shapes, found, "legal")) == set(found)
    tensors = load_file(folder / WEIGHTS)
    for side, shape in (("A", (4, 48)), ("B", (48, 4))):
        tensors[f"base_model.model.{vision}.lora_{side}.weight"] = np.ones(shape, np.float32)
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(UsageError, match=f"adds to '{vision}', which lies outside of the decoder's layers"):
        read(checkpoint, folder)


def test_an_adapter_of_a_wider_model_is_refused_with_both_shapes(
    make_tiny_checkpoint: Callable[..., Path], tiny_llama: Path, tmp_path: Path
) -> None:
    wider = tiny_lora(tmp_path / "lora", make_tiny_checkpoint(tmp_path / "wider", hidden=128), ("q_proj",))
    said = f"is an adapter of another model: it adds 128 x 128 to '{Q}', which is 64 x 64 here"
    with pytest.raises(UsageError, match=re.escape(said)):
        read(tiny_llama, wider)


def test_missing_files_are_named(tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such folder"):
        read(tiny_llama, tmp_path / "none")
    folder = tiny_lora(tmp_path / "lora", tiny_llama)
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")
    with pytest.raises(
        UsageError, match=r"adapter_model\.safetensors is not in it; its adapter_model\.bin is a pickle"
    ):
        read(tiny_llama, folder)
    (folder / CONFIG).unlink()
    with pytest.raises(UsageError, match=r"adapter_config\.json and adapter_model\.safetensors are not in it"):
        read(tiny_llama, folder)
    (folder / WEIGHTS).write_bytes(b"no tensors")
    (folder / CONFIG).write_text("{")
    with pytest.raises(UsageError, match=r"--adapter legal=.*adapter_config\.json is not JSON"):
        read(tiny_llama, folder)


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({}, 2.0),
        ({"use_rslora": True}, 4.0),
        ({"alpha_pattern": {"q_proj": 2}}, 0.5),
        ({"alpha_pattern": {r"layers\.1\.self_attn\.q_proj": 2}}, 2.0),
        ({"alpha_pattern": {"proj": 2}}, 2.0),
    ],
)
def test_the_scale_is_alpha_by_rank(config: dict[str, Any], scale: float, tiny_llama: Path, tmp_path: Path) -> None:
    folder = tiny_lora(tmp_path / "lora", tiny_llama, ("q_proj",), rank=4, alpha=8, **config)
    (adapter,) = read(tiny_llama, folder).adapters
    stored = load_file(folder / WEIGHTS)
    assert np.array_equal(adapter.factors[Q].down, stored[f"base_model.model.{Q}.lora_A.weight"].T)
    assert np.allclose(adapter.factors[Q].up, scale * stored[f"base_model.model.{Q}.lora_B.weight"].T)
    assert (adapter.ranks, adapter.roles) == ((4,), ("q_proj",))


@pytest.mark.finetune
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of libraries about each other
@pytest.mark.parametrize(
    "more", [{}, {"use_rslora": True, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"k_proj": 5}}]
)
def test_factors_are_what_peft_merges(more: dict[str, Any], tiny_llama: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    config = peft.LoraConfig(target_modules="all-linear", r=4, lora_alpha=6, init_lora_weights=False, **more)
    adapted = peft.get_peft_model(model, config)
    adapted.save_pretrained(tmp_path / "lora")
    (adapter,) = read(tiny_llama, tmp_path / "lora").adapters
    after = adapted.merge_and_unload().state_dict()
    for module, factors in adapter.factors.items():
        added = (after[f"{module}.weight"] - before[f"{module}.weight"]).numpy()
        assert np.abs((factors.down @ factors.up).T - added).max() < 1e-5
    assert {f"{module}.weight" for module in adapter.factors} == {name for name in before if "proj" in name}
