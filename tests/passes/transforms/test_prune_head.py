"""The head on the last position only: the same next token from the same weights, and the way back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from tiny import tiny_sizes
from transformers import Gemma2Config

from olivine.evaluators.process.client import ModelProcess
from olivine.passes.artifact import ModelArtifact
from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import PassRefused
from olivine.passes.export.check import prompt
from olivine.passes.export.genai_builder import run_builder
from olivine.passes.pipeline import build
from olivine.passes.sources.source import resolve
from olivine.passes.store.cache import Cache
from olivine.passes.transforms.prune_head import PruneHead, is_pruned, pruning_refusal, unprune, unpruned

TOKENS = np.array([5, 6, 7, 8, 9, 30, 31])
#: The head as MatMul, MatMulNBits of its own width, and beside integer products.
CHOICES: tuple[dict[str, Scalar], ...] = (
    {},
    {"precision": "int4", "lm_head": "int8", "embedding": "int8", "threads": 1},
    {"precision": "int8", "activations": "int8", "fusion_level": "full"},
)


def logits(folder: Path) -> np.ndarray:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    artifact = ModelArtifact(folder, "", frozenset())
    session = ort.InferenceSession(str(artifact.onnx_path()), options, providers=["CPUExecutionProvider"])
    head_size = artifact.genai_config()["model"]["decoder"]["head_size"]
    found: np.ndarray = session.run(["logits"], prompt(session, head_size, TOKENS))[0]
    return found


def twins(checkpoint: Path, cache: Cache, choice: dict[str, Scalar]) -> tuple[ModelArtifact, ModelArtifact]:
    """The candidate without and with a pruned head."""
    source = resolve(str(checkpoint))
    plain, pruned = (
        build(source, LANGUAGE.compose({**choice, "prune_head": p}), cache).artifact for p in (False, True)
    )
    return plain, pruned


@pytest.fixture(scope="module")
def pruned_llama(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelArtifact, ModelArtifact]:
    """An int4 candidate without and with a pruned head; do not write into them."""
    return twins(tiny_llama, Cache(tmp_path_factory.mktemp("prune")), CHOICES[1])


@pytest.mark.parametrize("choice", CHOICES, ids=["fp32", "int4", "int8-activations"])
def test_the_last_logits_are_those_of_the_unpruned_twin(
    choice: dict[str, Scalar], tiny_llama: Path, tmp_path: Path
) -> None:
    plain, pruned = (logits(artifact.path) for artifact in twins(tiny_llama, Cache(tmp_path), choice))
    assert plain.shape[1] == len(TOKENS)
    assert pruned.shape == (1, 1, plain.shape[2])
    # One row takes another kernel than seven: equal up to the rounding of sums.
    np.testing.assert_allclose(pruned[:, -1], plain[:, -1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "phi3", "gemma3", "mistral", "smollm3"])
def test_every_architecture_is_pruned(
    architecture: str, tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]
) -> None:
    checkpoint = make_tiny_checkpoint(tmp_path / architecture, architecture)
    plain, pruned = twins(checkpoint, Cache(tmp_path / "cache"), {"precision": "int8"})
    assert is_pruned(pruned.path)
    assert not is_pruned(plain.path)
    np.testing.assert_allclose(logits(pruned.path)[:, -1], logits(plain.path)[:, -1], rtol=1e-4, atol=1e-5)


def test_a_soft_cap_behind_the_head_is_passed(tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]) -> None:
    more = {
        "num_hidden_layers": 2,
        "head_dim": 16,
        "final_logit_softcapping": 3.0,
        "layer_types": ["full_attention"] * 2,
    }
    config = Gemma2Config(**{**tiny_sizes(), **more})
    plain, pruned = twins(make_tiny_checkpoint(tmp_path / "gemma2", config=config), Cache(tmp_path / "cache"), {})
    assert "Tanh" in {node.op_type for node in ir.load(plain.onnx_path()).graph}
    assert pruning_refusal(plain.path) == ""
    np.testing.assert_allclose(logits(pruned.path)[:, -1], logits(plain.path)[:, -1], rtol=1e-4, atol=1e-5)


def test_genai_generates_the_same_text(pruned_llama: tuple[ModelArtifact, ModelArtifact]) -> None:
    said = []
    for artifact in pruned_llama:
        with ModelProcess.open(artifact.path) as process:
            said.append(process.generate("The bank of the river", 12))
    assert said[0] == said[1]


def test_nothing_but_the_graph_differs_and_weights_are_hard_links(
    pruned_llama: tuple[ModelArtifact, ModelArtifact],
) -> None:
    plain, pruned = pruned_llama
    names = [file.name for file in plain.files()]
    assert names == [file.name for file in pruned.files()]
    inodes = {name: [(a.path / name).stat().st_ino for a in (plain, pruned)] for name in names}
    assert [name for name, (one, two) in inodes.items() if one != two] == ["model.onnx"]
    assert (plain.genai_config(), plain.properties) == (pruned.genai_config(), pruned.properties)


def test_the_twin_of_a_pruned_model_is_the_model_before(pruned_llama: tuple[ModelArtifact, ModelArtifact]) -> None:
    plain, pruned = pruned_llama
    with unpruned(pruned.path) as twin:
        assert (twin / "model.onnx.data").stat().st_ino == (plain.path / "model.onnx.data").stat().st_ino
        assert wiring(twin) == wiring(plain.path)
        np.testing.assert_array_equal(logits(twin), logits(plain.path))
    assert not twin.exists()


def wiring(folder: Path) -> list[object]:
    """Nodes with what they read and write, shapes on the way to the logits, and names of weights."""
    model = ir.load(folder / "model.onnx")
    reads = [(node.name, [value and value.name for value in node.inputs]) for node in model.graph]
    gives = [(value.name, str(value.shape)) for node in model.graph for value in node.outputs]
    return [reads, gives, sorted(model.graph.initializers)]


def test_an_unpruned_model_is_its_own_twin(tiny_onnx: Path) -> None:
    with unpruned(tiny_onnx) as twin:
        assert twin == tiny_onnx


def test_what_the_model_builder_pruned_has_a_twin_too(tiny_llama: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    run_builder(tiny_llama, tmp_path / "pruned", "fp32", "cpu", ["prune_lm_head=true"])
    assert is_pruned(tmp_path / "pruned")
    with unpruned(tmp_path / "pruned") as twin:
        np.testing.assert_array_equal(logits(twin), logits(tiny_onnx))


def test_pruning_twice_is_refused(pruned_llama: tuple[ModelArtifact, ModelArtifact]) -> None:
    with pytest.raises(PassRefused, match="last position only already"):
        PruneHead().rewire(ir.load(pruned_llama[1].onnx_path()))


def test_a_graph_without_a_known_head_is_refused(tiny_onnx: Path) -> None:
    model = ir.load(tiny_onnx / "model.onnx")
    head = next(node for node in model.graph if (node.name or "").startswith("/lm_head/MatMul"))
    head.op_type = "Gemm"
    with pytest.raises(PassRefused, match="no head is found"):
        PruneHead().rewire(model)


def test_another_way_of_pruning_is_refused_with_the_reason(tmp_path: Path, tiny_onnx: Path) -> None:
    model = ir.load(tiny_onnx / "model.onnx")
    with pytest.raises(PassRefused, match="in a way that is not known here"):
        unprune(model)


@pytest.mark.parametrize("writable", [True, False])
def test_a_twin_lies_beside_its_model_on_another_disk_than_the_cache_where_it_may(
    writable: bool,
    pruned_llama: tuple[ModelArtifact, ModelArtifact],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = shutil.copytree(pruned_llama[1].path, tmp_path / "kept" / "model")
    monkeypatch.setenv("OLIVINE_CACHE", str(tmp_path / "no-cache-yet"))  # not there: not on the model's disk
    monkeypatch.setattr("olivine.passes.transforms.prune_head.os.access", lambda path, mode: writable)
    with unpruned(folder) as twin:
        assert (tmp_path / "kept" in twin.parents) == writable
        np.testing.assert_array_equal(logits(twin), logits(pruned_llama[0].path))
