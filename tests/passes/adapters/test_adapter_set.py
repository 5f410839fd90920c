"""Adapters beside a graph: with one active, the graph is the checkpoint with that adapter merged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from tiny_lora import EVERY_PROJECTION, merged, tiny_lora

from olivine.passes.adapters.adapter_file import adapter_names, adapter_path, named_adapter
from olivine.passes.adapters.adapter_set import AdapterSet
from olivine.passes.adapters.slots import places
from olivine.passes.artifact import ModelArtifact
from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import UsageError, WrongGraph
from olivine.passes.graph import load_graph
from olivine.passes.parity.graph_run import GraphRun
from olivine.passes.parity.reference import Reference
from olivine.passes.pipeline import build
from olivine.passes.recipe import Recipe
from olivine.passes.sources.source import resolve
from olivine.passes.store.cache import Cache
from olivine.passes.transforms.prune_head import unpruned

TOKENS = [5, 6, 7, 8, 9, 30, 31, 40, 41, 42, 100, 101]
INT8: dict[str, Scalar] = {"precision": "int8", "activations": "int8", "dynamic_layers": "all"}


def exported(adapters: AdapterSet, choice: dict[str, Scalar], home: Path) -> tuple[Path, Recipe]:
    """A folder with adapters beside its graph, and its recipe."""
    recipe = adapters.in_recipe(LANGUAGE.compose(choice))
    graph = build(resolve(str(adapters.checkpoint)), recipe, Cache(home / "cache")).artifact
    shutil.copytree(graph.path, home / "folder")
    adapters.write(graph.onnx_path(), recipe, home / "folder")
    return home / "folder", recipe


def graph_logits(folder: Path, adapter: str | None = None) -> np.ndarray:
    """Logits of a folder's graph, its prompt in two pieces behind a cache."""
    file = None if adapter is None else named_adapter(folder, adapter)
    with unpruned(folder) as scored:
        return np.concatenate(list(GraphRun(scored, adapter=file).logits(TOKENS, [7, 5])))


def checkpoint_logits(checkpoint: Path) -> np.ndarray:
    (logits,) = Reference(checkpoint).logits(TOKENS, [len(TOKENS)])
    return logits


@pytest.mark.parametrize(
    ("architecture", "choice"),
    [
        ("llama", {}),
        ("llama", {"rotate": True, "fusion_level": "full", "prune_head": True}),
        ("qwen2", {"rotate": True}),
        ("phi3", {}),
        ("gemma3", {"fusion_level": "full"}),
    ],
)
def test_a_float_graph_with_an_adapter_is_the_checkpoint_with_it_merged(
    architecture: str, choice: dict[str, Scalar], make_tiny_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    checkpoint = make_tiny_checkpoint(tmp_path / "checkpoint", architecture)
    merged_roles = ("qkv_proj", "gate_up_proj")
    folders = {
        "whole": tiny_lora(tmp_path / "a", checkpoint, (*EVERY_PROJECTION, *merged_roles)),
        "part": tiny_lora(
            tmp_path / "b", checkpoint, ("v_proj", "q_proj", "qkv_proj"), rank=2, alpha=3, seed=1, use_rslora=True
        ),
        "late": tiny_lora(tmp_path / "c", checkpoint, ("k_proj", "gate_up_proj", "up_proj"), rank=7, layers=(1,)),
    }
    folder, _ = exported(AdapterSet.read(checkpoint, folders), choice, tmp_path)
    assert adapter_names(folder) == ["late", "part", "whole"]
    base = checkpoint_logits(checkpoint)
    assert np.abs(graph_logits(folder) - base).max() < 1e-4
    for name, adapter in folders.items():
        expected = checkpoint_logits(merged(checkpoint, adapter, tmp_path / f"merged-{name}"))
        assert np.abs(expected - base).max() > 0.1, "it does something"
        assert np.abs(graph_logits(folder, name) - expected).max() < 1e-4


@pytest.mark.parametrize("choice", [{"precision": "int4"}, INT8], ids=["int4", "dynamic int8"])
def test_the_base_of_a_quantized_graph_is_what_it_is_without_adapters(
    choice: dict[str, Scalar], tiny_llama: Path, tmp_path: Path
) -> None:
    adapters = AdapterSet.read(tiny_llama, {"one": tiny_lora(tmp_path / "a", tiny_llama)})
    folder, _ = exported(adapters, choice, tmp_path)
    plain = build(resolve(str(tiny_llama)), LANGUAGE.compose(choice), Cache(tmp_path / "cache")).artifact
    assert np.array_equal(graph_logits(folder), graph_logits(plain.path)), "no adapter is active"
    with_places, without = (
        {name: value.const_value.numpy() for name, value in load_graph(path).graph.initializers.items()}  # type: ignore[union-attr]
        for path in (ModelArtifact(folder, "", frozenset()).onnx_path(), plain.onnx_path())
    )
    assert set(with_places) - set(without) == {
        f"{path}/lora_{side}" for path in places(folder / "model.onnx") for side in "AB"
    }
    assert all(np.array_equal(with_places[name], without[name]) for name in without)
    effect = adapters.check(folder, TOKENS)["one"]
    assert effect.added > effect.base_error
    assert effect.error < 2 * effect.base_error
    assert effect.kl_divergence < 3 * effect.base_kl_divergence


def test_an_adapter_that_is_not_turned_with_its_checkpoint_is_noticed(tiny_llama: Path, tmp_path: Path) -> None:
    adapters = AdapterSet.read(tiny_llama, {"one": tiny_lora(tmp_path / "a", tiny_llama)})
    folder, _ = exported(adapters, {"rotate": True, "precision": "int4"}, tmp_path)
    assert adapters.check(folder, TOKENS)["one"].explained
    adapters.write(folder / "model.onnx", LANGUAGE.compose({}), folder)  # as if nothing were rotated
    with pytest.raises(WrongGraph, match=r"adapter 'one' does not do to the exported graph what it does to the check"):
        adapters.check(folder, TOKENS)


@pytest.mark.parametrize("choice", [{"precision": "int4"}, INT8], ids=["int4", "dynamic int8"])
def test_an_adapter_of_another_strength_is_noticed(choice: dict[str, Scalar], tiny_llama: Path, tmp_path: Path) -> None:
    adapters = AdapterSet.read(tiny_llama, {"one": tiny_lora(tmp_path / "a", tiny_llama, alpha=1.6)})
    folder, recipe = exported(adapters, choice, tmp_path)
    effect = adapters.check(folder, TOKENS)["one"]
    assert (effect.size, effect.slope) == (pytest.approx(1, abs=0.2), pytest.approx(1, abs=0.25))
    for alpha in (3.2, 0.8):
        other = tiny_lora(tmp_path / f"{alpha}", tiny_llama, alpha=alpha)  # the same matrices
        AdapterSet.read(tiny_llama, {"one": other}).write(folder / "model.onnx", recipe, folder)
        with pytest.raises(WrongGraph, match=r"its effect is [\d.]+ times as large"):
            adapters.check(folder, TOKENS)


@pytest.mark.finetune
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of libraries about each other
def test_a_float_graph_with_an_adapter_is_the_checkpoint_that_peft_has_merged_it_into(
    tiny_llama: Path, tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    patterns: dict[str, dict[str, Any]] = {
        "root": {"use_rslora": True, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"k_proj": 5, "mlp.up_proj": 3}},
        "plain": {
            "rank_pattern": {r"layers\.1\..*": 6},
            "alpha_pattern": {r"layers\.0\.mlp\.\w+": 2, r".*\.[qk]_proj": 4},
        },
    }
    for name, more in patterns.items():
        torch.manual_seed(0)
        config = peft.LoraConfig(target_modules="all-linear", r=4, lora_alpha=6, init_lora_weights=False, **more)
        adapted = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_llama), config)
        adapted.save_pretrained(tmp_path / name)
        adapted.merge_and_unload().save_pretrained(tmp_path / f"merged-{name}")
    adapters = AdapterSet.read(tiny_llama, {name: tmp_path / name for name in patterns})
    folder, _ = exported(adapters, {}, tmp_path)
    base = checkpoint_logits(tiny_llama)
    for name in patterns:
        expected = checkpoint_logits(tmp_path / f"merged-{name}")
        assert np.abs(expected - base).max() > 0.1, "it does something"
        assert np.abs(graph_logits(folder, name) - expected).max() < 1e-4


def test_the_recipe_says_which_layers_have_places(tiny_llama: Path, tmp_path: Path) -> None:
    folders = {
        "a": tiny_lora(tmp_path / "a", tiny_llama, ("q_proj",), layers=(1,)),
        "b": tiny_lora(tmp_path / "b", tiny_llama, ("v_proj", "o_proj"), layers=(1,)),
    }
    adapters = AdapterSet.read(tiny_llama, folders)
    recipe = adapters.in_recipe(LANGUAGE.compose({"rotate": True, "precision": "int4"}))
    assert [step.name for step in recipe.steps] == [
        "rotate",
        "export",
        "adapter_slots",
        "weight_only",
        "session_options",
    ]
    assert recipe.steps[2].params == {"layers": r"layers\.(1)/(o_proj|q_proj|v_proj)"}
    assert LANGUAGE.recipe(json.loads(json.dumps(recipe.to_json()))) == recipe
    folder, _ = exported(adapters, {}, tmp_path)
    assert set(places(folder / "model.onnx")) == {"layers.1/qkv_proj", "layers.1/o_proj"}


def test_a_file_holds_the_factors_of_a_merged_projection_side_by_side(tiny_llama: Path, tmp_path: Path) -> None:
    adapters = AdapterSet.read(tiny_llama, {"one": tiny_lora(tmp_path / "a", tiny_llama, ("q_proj", "v_proj"))})
    folder, _ = exported(adapters, {}, tmp_path)
    found = ort.AdapterFormat.read_adapter(str(adapter_path(folder, "one"))).get_parameters()
    down, up = (found[f"layers.0/qkv_proj/lora_{side}"].numpy() for side in "AB")
    assert (down.shape, up.shape) == ((64, 8), (8, 128))  # q has 64 features, k and v have 32
    factors = adapters.adapters[0].factors
    q, v = (factors[f"model.layers.0.self_attn.{role}"] for role in ("q_proj", "v_proj"))
    assert np.array_equal(down, np.hstack([q.down, v.down]))
    assert np.array_equal(up[:4, :64], q.up)
    assert np.array_equal(up[4:, 96:], v.up)
    assert not up[:4, 64:].any()
    assert not up[4:, :96].any()


def test_a_model_that_is_a_graph_already_takes_no_adapter(tiny_llama: Path, tmp_path: Path) -> None:
    adapters = AdapterSet.read(tiny_llama, {"one": tiny_lora(tmp_path / "a", tiny_llama)})
    recipe = LANGUAGE.recipe([{"name": "session_options", "params": {}}])
    with pytest.raises(UsageError, match="this model is a graph already"):
        adapters.in_recipe(recipe)


def test_an_unknown_name_is_told_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no adapters; 'olivine export"):
        named_adapter(tmp_path, "legal")
    (tmp_path / "adapters").mkdir()
    adapter_path(tmp_path, "legal").touch()
    assert named_adapter(tmp_path, "legal") == adapter_path(tmp_path, "legal")
    with pytest.raises(UsageError, match=r"has no adapter 'legl'\. Did you mean 'legal'\? Available: legal\."):
        named_adapter(tmp_path, "legl")
