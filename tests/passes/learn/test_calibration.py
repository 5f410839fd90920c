from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from olivine.passes.artifact import ModelArtifact
from olivine.passes.errors import PassRefused
from olivine.passes.export.check import prompt
from olivine.passes.learn.calibration import Hessians, capture_hessians, load_tokens, store_tokens
from olivine.passes.quantize.smoothing import step_power
from olivine.passes.store.cache import Cache

TOKENS = np.random.default_rng(0).integers(4, 300, size=(3, 20)).astype(np.int32)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def artifact(tiny_onnx: Path) -> ModelArtifact:
    return ModelArtifact(tiny_onnx, "tiny", frozenset({"onnx", "float"}))


def test_tokens_come_back_as_they_were_stored_under_a_key_of_themselves(cache: Cache) -> None:
    key = store_tokens(cache, TOKENS)
    assert np.array_equal(load_tokens(cache, key), TOKENS)
    assert store_tokens(cache, TOKENS.astype(np.int64)) == key
    assert store_tokens(cache, TOKENS.reshape(2, 30)) != key
    assert store_tokens(cache, TOKENS[::-1]) != key


def test_tokens_that_are_gone_are_named(cache: Cache) -> None:
    with pytest.raises(PassRefused, match="calibration text nothing is not in the cache"):
        load_tokens(cache, "nothing")


def test_what_was_learned_is_there_without_its_text(artifact: ModelArtifact, cache: Cache) -> None:
    text = store_tokens(cache, TOKENS)
    first = capture_hessians(artifact, text, cache)
    shutil.rmtree(cache.model_path(text).parent)
    assert capture_hessians(artifact, text, cache) == first


def activations(folder: Path, scratch: Path) -> dict[str, np.ndarray]:
    """What every MatMul with a weight reads, [tokens, K], from the whole graph with more outputs."""
    own = Path(shutil.copytree(folder, scratch / "own"))  # onnx reads no weights that other folders share
    model = onnx.load(own / "model.onnx")
    weights = {weight.name for weight in model.graph.initializer}
    names = dict.fromkeys(n.input[0] for n in model.graph.node if n.op_type == "MatMul" and n.input[1] in weights)
    model.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    onnx.save(model, scratch / "all.onnx")
    session = ort.InferenceSession(str(scratch / "all.onnx"), providers=["CPUExecutionProvider"])
    head_size = json.loads((folder / "genai_config.json").read_text())["model"]["decoder"]["head_size"]
    runs = [session.run(list(names), prompt(session, head_size, window)) for window in TOKENS]
    return {
        name: np.concatenate([run[i].reshape(-1, run[i].shape[-1]) for run in runs]) for i, name in enumerate(names)
    }


@pytest.mark.parametrize("group_bytes", [10**9, 1], ids=["one group", "a group each"])
def test_hessians_are_the_second_moments_of_what_layers_read(
    artifact: ModelArtifact, cache: Cache, tmp_path: Path, group_bytes: int
) -> None:
    found = capture_hessians(artifact, store_tokens(cache, TOKENS), cache, group_bytes)
    expected = activations(artifact.path, tmp_path)
    assert set(found.files) == set(expected)
    assert len(expected) == 2 * 4 + 1  # qkv, o, gate and up, down; the head
    for name, x in expected.items():
        hessian = found.of(name)
        assert hessian is not None
        assert hessian.dtype == np.float32
        np.testing.assert_allclose(hessian, x.T @ x / TOKENS.size, rtol=1e-3, atol=1e-5)


def test_an_activation_that_nobody_captured_has_none(tmp_path: Path) -> None:
    hessians = Hessians(tmp_path, "key", {})
    assert hessians.of("other") is None
    assert hessians.of(None) is None


def test_hessians_are_captured_once_and_nothing_else_is_left(artifact: ModelArtifact, cache: Cache) -> None:
    key = store_tokens(cache, TOKENS)
    first, second = capture_hessians(artifact, key, cache), capture_hessians(artifact, key, cache)
    assert first == second
    kinds = (".npy", ".ranges.npy", ".tokens.npy")
    files = [file.replace(".npy", kind) for file in first.files.values() for kind in kinds]
    assert sorted(p.name for p in first.folder.iterdir()) == sorted([*files, "index.json"])
    assert [p.name for p in first.folder.parent.iterdir() if p.is_dir()] == ["model"]


def test_other_text_or_another_graph_gives_other_hessians(artifact: ModelArtifact, cache: Cache) -> None:
    one, two = (store_tokens(cache, tokens) for tokens in (TOKENS, TOKENS[:2]))
    keys = {
        capture_hessians(graph, key, cache).key
        for graph in (artifact, ModelArtifact(artifact.path, "other", artifact.properties))
        for key in (one, two)
    }
    assert len(keys) == 4


def test_ranges_are_those_of_each_channel_in_each_window(artifact: ModelArtifact, cache: Cache, tmp_path: Path) -> None:
    found = capture_hessians(artifact, store_tokens(cache, TOKENS), cache)
    for name, x in activations(artifact.path, tmp_path).items():
        windows = x.reshape(*TOKENS.shape, -1)
        ranges = found.ranges(name)
        assert ranges is not None
        np.testing.assert_allclose(ranges, np.stack([windows.min(axis=1), windows.max(axis=1)]), rtol=1e-4, atol=1e-5)
        power = float(np.square(windows[0] - _rounded(windows[0])).mean())
        assert step_power(ranges[:, :1]) == pytest.approx(power, rel=0.2)


def test_tokens_are_told_by_their_largest_value_and_their_power(
    artifact: ModelArtifact, cache: Cache, tmp_path: Path
) -> None:
    found = capture_hessians(artifact, store_tokens(cache, TOKENS), cache)
    for name, x in activations(artifact.path, tmp_path).items():
        tokens = found.tokens(name)
        assert tokens is not None
        np.testing.assert_allclose(tokens, [np.abs(x).max(axis=1), np.square(x).mean(axis=1)], rtol=1e-3, atol=1e-5)


def test_hessians_of_version_0_1_0_keep_their_key_and_get_tokens_beside_them(
    artifact: ModelArtifact, cache: Cache, tmp_path: Path
) -> None:
    new = capture_hessians(artifact, store_tokens(cache, TOKENS), cache)

    def without_tokens(to: Path) -> frozenset[str]:
        for path in new.folder.iterdir():
            if not path.name.endswith(".tokens.npy"):
                shutil.copy(path, to)
        return frozenset({"hessians"})

    older = Cache(tmp_path / "older")
    older.put(new.key, without_tokens)
    found = capture_hessians(artifact, store_tokens(older, TOKENS), older)
    assert found.key == new.key
    for name in new.files:
        assert np.array_equal(found.tokens(name), new.tokens(name))  # type: ignore[arg-type]


def _rounded(x: np.ndarray) -> np.ndarray:
    """To one byte, with one scale."""
    step = (max(x.max(), 0) - min(x.min(), 0)) / 255
    found: np.ndarray = np.rint(x / step) * step
    return found
