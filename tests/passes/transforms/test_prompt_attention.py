"""Attention over a prompt, computed whole: the same logits from the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from graph_logits import graph_logits
from tiny import tiny_sizes
from transformers import Gemma2Config

from olivine.passes.artifact import ModelArtifact
from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import PassRefused
from olivine.passes.pipeline import build
from olivine.passes.sources.source import resolve
from olivine.passes.store.cache import Cache
from olivine.passes.transforms.prompt_attention import WholeScores
from olivine.passes.transforms.prune_head import unpruned

TOKENS = np.random.default_rng(0).integers(5, 60, 200).tolist()


def built(checkpoint: Path, cache: Path, choice: dict[str, Scalar]) -> ModelArtifact:
    return build(resolve(str(checkpoint)), LANGUAGE.compose(choice), Cache(cache)).artifact


def attentions(folder: Path) -> list[ir.Node]:
    return [node for node in ir.load(folder / "model.onnx").graph if node.op_type == "GroupQueryAttention"]


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "phi3", "mistral", "smollm3"])
def test_logits_stay(architecture: str, tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]) -> None:
    checkpoint = make_tiny_checkpoint(tmp_path / architecture, architecture)
    tiled, whole = (
        built(checkpoint, tmp_path / "cache", {"precision": "fp32", "prompt_attention": how})
        for how in ("tiled", "whole")
    )
    assert all(len(node.inputs) > 11 and node.inputs[11] is not None for node in attentions(whole.path))
    assert not any(len(node.inputs) > 11 and node.inputs[11] is not None for node in attentions(tiled.path))
    for pieces in ((), (150, 49, 1)):  # behind a cache, and a token of decode, too
        expected = graph_logits(tiled.path, TOKENS, pieces)
        np.testing.assert_allclose(graph_logits(whole.path, TOKENS, pieces), expected, rtol=1e-4, atol=1e-5)


def test_weights_are_those_of_the_tiled_twin(tiny_llama: Path, tmp_path: Path) -> None:
    tiled, whole = (
        built(tiny_llama, tmp_path, {"precision": "int8", "prompt_attention": how}) for how in ("tiled", "whole")
    )
    assert (tiled.path / "model.onnx.data").samefile(whole.path / "model.onnx.data")


def test_a_pruned_head_is_scored_with_the_attention_that_is_deployed(tiny_llama: Path, tmp_path: Path) -> None:
    deployed = built(tiny_llama, tmp_path, {"precision": "int8", "prompt_attention": "whole", "prune_head": True})
    with unpruned(deployed.path) as scored:
        assert all(node.inputs[11] is not None for node in attentions(scored))


def test_the_default_names_no_attention() -> None:
    assert LANGUAGE.compose({"precision": "int8", "prompt_attention": "tiled"}) == LANGUAGE.compose(
        {"precision": "int8"}
    )


def test_capped_scores_are_whole_already(tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]) -> None:
    checkpoint = make_tiny_checkpoint(tmp_path / "gemma2", config=Gemma2Config(**tiny_sizes()))
    whole = built(checkpoint, tmp_path / "cache", {"precision": "fp32", "prompt_attention": "whole"})
    assert attentions(whole.path)
    assert not any(len(node.inputs) > 11 and node.inputs[11] is not None for node in attentions(whole.path))


def test_a_graph_without_such_attention_is_refused() -> None:
    model = ir.Model(ir.Graph([], [], nodes=[]), ir_version=10)
    with pytest.raises(PassRefused, match=r"whole_scores: the graph has no GroupQueryAttention"):
        WholeScores().rewire(model)


def test_a_sink_that_is_there_stays(tiny_llama: Path, tmp_path: Path) -> None:
    model = ir.load(built(tiny_llama, tmp_path, {"precision": "fp32"}).path / "model.onnx")
    WholeScores().rewire(model)
    before = [node.inputs[11] for node in model.graph if node.op_type == "GroupQueryAttention"]
    WholeScores().rewire(model)
    assert [node.inputs[11] for node in model.graph if node.op_type == "GroupQueryAttention"] == before
