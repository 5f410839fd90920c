"""``olivine doctor MODEL``: what is said of a model, and the exit code. No network, nothing built."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from safetensors.numpy import load_file, save_file
from transformers import MistralConfig

from olivine.passes.errors import SourceError
from olivine.search.planning.model_support import examine_model, support_table
from tests.tiny import tiny_checkpoint, tiny_sizes


def shown(model: Path) -> tuple[int, str]:
    file = io.StringIO()
    support = examine_model(str(model))
    Console(file=file, width=140).print(support_table(support))
    return support.exit_code, " ".join(file.getvalue().split())


def test_a_whole_checkpoint_is_supported_and_its_positions_and_mends_are_told(tmp_path: Path) -> None:
    sizes = tiny_sizes() | {"sliding_window": 24, "max_position_embeddings": 512}
    model = tiny_checkpoint(tmp_path / "model", config=MistralConfig(**sizes))
    code, words = shown(model)
    assert code == 0
    assert "checkpoint, MistralForCausalLM, weights stored as float32" in words
    assert "names, shapes and types are those of the architecture" in words
    assert "context 512 tokens; sliding window 24; RoPE default" in words
    assert "every layer has its sliding window" in words
    assert not [name for name in tmp_path.iterdir() if name.name != "model"]


def test_missing_weights_are_named_and_the_exit_code_is_that_of_a_mistake(tmp_path: Path) -> None:
    model = tiny_checkpoint(tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    code, words = shown(model)
    assert code == 2
    assert "refused" in words
    assert "model.layers.1.mlp.up_proj.weight" in words


def test_names_of_a_training_tool_are_told_and_their_comparison_is_left_to_the_build(tmp_path: Path) -> None:
    model = tiny_checkpoint(tmp_path / "model")
    weights = {f"module.{name}": value for name, value in load_file(model / "model.safetensors").items()}
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    code, words = shown(model)
    assert code == 0
    assert "compared with the architecture by a build" in words
    assert "is read as 'model.embed_tokens.weight'" in words


def test_an_onnx_folder_has_no_proof_and_the_command_that_makes_one_is_named(tiny_onnx: Path) -> None:
    code, words = shown(tiny_onnx)
    assert code == 0
    assert "olivine verify DIR --against MODEL" in words


def test_what_is_no_model_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no config\.json"):
        examine_model(str(tmp_path))
