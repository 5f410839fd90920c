from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from benchmarks.low_rank import Branch, Training, batches, float_model, layers_of, student_of, train, write_folder
from benchmarks.recover import verdict
from onnx import helper

from olivine.evaluators.stats import Interval
from olivine.passes.artifact import ModelArtifact
from olivine.passes.catalog import LANGUAGE
from olivine.passes.export.check import prompt
from olivine.passes.graph import HEAD, load_graph
from olivine.passes.pipeline import build
from olivine.passes.sources.source import resolve
from olivine.passes.store.cache import Cache

TOKENS = np.arange(3, 19)
LAYER = "layers.1/down_proj"


@pytest.fixture(scope="module")
def candidate(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelArtifact:
    """Int4, its projections apart; activations stay float in the kernels."""
    choice = {"precision": "int4", "embedding": "int8", "fusion_level": "none", "accuracy_level": 1, "threads": 1}
    cache = Cache(tmp_path_factory.mktemp("cache"))
    return build(resolve(str(tiny_llama)), LANGUAGE.compose({**choice, "symmetric": False}), cache).artifact


def values(folder: Path, names: list[str]) -> list[np.ndarray]:
    """Values of the graph in a folder, for one prompt."""
    artifact = ModelArtifact(folder, "", frozenset())
    model = ir.to_proto(load_graph(artifact.onnx_path()))
    known = {output.name for output in model.graph.output}
    asked = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names if n not in known]
    model.graph.output.extend(asked)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    size = int(artifact.genai_config()["model"]["decoder"]["head_size"])
    return list(session.run(names, prompt(session, size, TOKENS)))


def random_branches(candidate: ModelArtifact, zero: bool) -> dict[str, Branch]:
    """Of all projections."""
    rng = np.random.default_rng(0)
    found = {}
    for path, node in layers_of(load_graph(candidate.onnx_path())):
        k, n = node.attributes["K"].as_int(), node.attributes["N"].as_int()
        b = np.zeros((8, n)) if zero else rng.normal(0, 0.1, (8, n))
        if path != HEAD:
            found[path] = Branch(rng.normal(0, 0.1, (k, 8)).astype(np.float32), b.astype(np.float32))
    return found


def test_every_projection_is_found(candidate: ModelArtifact) -> None:
    roles = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    paths = [path for path, _ in layers_of(load_graph(candidate.onnx_path()))]
    assert sorted(paths) == sorted([HEAD, *(f"layers.{layer}/{role}" for layer in range(2) for role in roles)])


def test_a_branch_adds_its_product_to_the_output_of_its_layer(candidate: ModelArtifact, tmp_path: Path) -> None:
    branch = random_branches(candidate, zero=False)[LAYER]
    write_folder(candidate, {LAYER: branch}, tmp_path / "lora")
    node = dict(layers_of(load_graph(candidate.onnx_path())))[LAYER]
    names = [str(node.inputs[0].name), str(node.outputs[0].name), "logits"]
    x, plain, plain_logits = values(candidate.path, names)
    same_x, found, logits = values(tmp_path / "lora", names)
    np.testing.assert_allclose(same_x, x, atol=1e-5)
    np.testing.assert_allclose(found, plain + (x @ branch.a) @ branch.b, atol=1e-4)
    assert np.abs(found - plain).max() > 1e-2
    assert np.abs(logits - plain_logits).max() > 1e-3


def test_branches_of_zeros_leave_the_logits_unchanged(candidate: ModelArtifact, tmp_path: Path) -> None:
    write_folder(candidate, random_branches(candidate, zero=True), tmp_path / "lora")
    (plain,), (found,) = (values(folder, ["logits"]) for folder in (candidate.path, tmp_path / "lora"))
    np.testing.assert_allclose(found, plain, atol=1e-5)


def test_the_student_predicts_as_the_candidate_does(candidate: ModelArtifact, tiny_llama: Path) -> None:
    (logits,) = values(candidate.path, ["logits"])
    ids = torch.from_numpy(TOKENS[None])
    found = student_of(tiny_llama, candidate.onnx_path())(ids).logits.numpy()
    teacher = float_model(tiny_llama)(ids).logits.numpy()
    assert np.abs(found - logits).max() < 0.2 * np.abs(teacher - logits).max()


def test_what_was_trained_is_what_the_graph_computes(
    candidate: ModelArtifact, tiny_llama: Path, tmp_path: Path
) -> None:
    student, teacher = student_of(tiny_llama, candidate.onnx_path()), float_model(tiny_llama)
    before = student(torch.from_numpy(TOKENS[None])).logits.detach().numpy()
    tokens = np.random.default_rng(0).integers(0, 300, (4, 32))
    branches, losses = train(student, teacher, tokens, Training(steps=20, tokens=32, rate=1e-2))
    after = student(torch.from_numpy(TOKENS[None])).logits.detach().numpy()
    write_folder(candidate, branches, tmp_path / "lora")
    (plain,), (found,) = (values(folder, ["logits"]) for folder in (candidate.path, tmp_path / "lora"))
    assert np.mean(losses[-4:]) < np.mean(losses[:4])
    np.testing.assert_allclose(found - plain, after - before, atol=0.2 * np.abs(after - before).max())


def test_batches_take_every_piece_before_any_comes_again() -> None:
    tokens = np.arange(4 * 16).reshape(4, 16)
    found = torch.cat(list(batches(tokens, Training(steps=8, batch=2, tokens=8))))
    assert found.shape == (16, 8)
    assert sorted(found[:8, 0].tolist()) == list(range(0, 64, 8))


@pytest.mark.parametrize(
    ("less", "decode", "pays"),
    [
        (Interval(0.8, 0.7, 0.9), Interval(1.0, 0.98, 1.02), True),
        (Interval(0.8, 0.7, 0.9), Interval(0.9, 0.88, 0.92), False),
        (Interval(0.9, 0.7, 1.1), Interval(1.0, 0.98, 1.02), False),
        (Interval(1.2, 1.1, 1.3), Interval(1.0, 0.98, 1.02), False),
    ],
)
def test_a_lora_pays_where_it_surely_diverges_less_and_is_not_surely_slower(
    less: Interval, decode: Interval, pays: bool
) -> None:
    assert verdict(less, decode).startswith(f"A short LoRA {'pays' if pays else 'does not pay'} here")
