"""Every architecture of the shipped configs, through every quantization pass, into a model that generates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from olivine.evaluators.process.client import ModelProcess
from olivine.passes.catalog import LANGUAGE
from olivine.passes.learn.calibration import store_tokens
from olivine.passes.pipeline import build
from olivine.passes.sources.source import resolve
from olivine.passes.store.cache import Cache

ARCHITECTURES = ("llama", "qwen2", "qwen3", "phi3", "gemma3", "mistral", "smollm3")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_quantized_candidates_load_and_generate(
    architecture: str, tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]
) -> None:
    checkpoint = make_tiny_checkpoint(tmp_path / architecture, architecture)
    choice = {
        "precision": "int4",
        "algorithm": "k_quant",
        "activations": "int8",
        "lm_head": "int8",
        "embedding": "int8",
    }
    built = build(resolve(str(checkpoint)), LANGUAGE.compose(choice), Cache(tmp_path / "cache"))
    ops = {node.op_type for node in _graph(built.artifact.onnx_path())}
    assert {"MatMulNBits", "MatMulIntegerToFloat", "GatherBlockQuantized"} <= ops
    with ModelProcess.open(built.artifact.path) as process:
        process.prefill([5, 6, 7, 8], 4)
        assert len(process.decode(3).ms) == 3


@pytest.mark.parametrize("fusion_level", ["none", "qkv"])
def test_mixed_builds_where_the_checkpoint_merges_what_the_graph_has_apart(
    fusion_level: str, tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]
) -> None:
    """Phi3: its checkpoint has one weight for q, k and v and one for gate and up."""
    source = resolve(str(make_tiny_checkpoint(tmp_path / "phi3", "phi3")))
    cache = Cache(tmp_path / "cache")
    text = store_tokens(cache, np.random.default_rng(0).integers(4, 300, size=(2, 16)))
    built = build(source, LANGUAGE.compose({"precision": "mixed", "fusion_level": fusion_level}), cache, text)
    widths = {a.i for node in _graph(built.artifact.onnx_path()) for a in node.attribute if a.name == "bits"}
    assert widths == {4, 8}


def _graph(path: Path) -> list[onnx.NodeProto]:
    return list(onnx.load(path, load_external_data=False).graph.node)
