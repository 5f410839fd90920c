"""Text that a float model writes itself: the same every time, with its openings, kept in the cache."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from olivine.passes.artifact import ModelArtifact
from olivine.passes.errors import BuildFailed, PassRefused
from olivine.passes.learn.own_text import TEMPERATURES, Opening, own_text
from olivine.passes.store.cache import Cache

PLAIN, CHAT = Opening((1,), ((),)), Opening((5, 6, 7), ((8, 9), (5, 6, 7)))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def model(tiny_onnx: Path) -> ModelArtifact:
    return ModelArtifact(tiny_onnx, "tiny", frozenset({"onnx", "float"}))


def ends_of(model: ModelArtifact) -> set[int]:
    ends = model.genai_config()["model"]["eos_token_id"]
    return set(ends if isinstance(ends, list) else [ends])


def test_the_same_model_seed_and_openings_write_the_same_text(model: ModelArtifact, tmp_path: Path) -> None:
    first, again, other = (
        own_text(model, (PLAIN, CHAT), 4, 24, seed, Cache(tmp_path / name))
        for seed, name in ((0, "a"), (0, "b"), (1, "c"))
    )
    assert (first.shape, first.dtype) == ((4, 24), np.int32)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert 0 <= first.min() <= first.max() < int(model.genai_config()["model"]["vocab_size"])


def test_rows_take_the_openings_in_turns(model: ModelArtifact, cache: Cache) -> None:
    written = own_text(model, (PLAIN, CHAT), 4, 24, 0, cache)
    assert [row[:3].tolist() == [5, 6, 7] for row in written] == [False, True, False, True]
    assert written[0, 0] == written[2, 0] == 1


def test_short_rows_share_a_window_and_long_ones_are_cut(
    model: ModelArtifact, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("olivine.passes.learn.own_text.ROW_TOKENS", 8)
    written = own_text(model, (CHAT,), 2, 20, 0, cache)
    assert [written.reshape(-1)[start : start + 3].tolist() for start in (0, 8, 16, 24, 32)] == [[5, 6, 7]] * 5


def test_behind_each_end_stands_the_next_turn(model: ModelArtifact, cache: Cache) -> None:
    chat = Opening((5, 6), ((8, 9), (5, 6)))
    texts = own_text(model, (chat,), 40, 100, 3, cache)
    found = [
        (row[end + 1 : end + 3].tolist(), number)
        for row in texts
        for number, end in enumerate(i for i, token in enumerate(row[:-2]) if int(token) in ends_of(model))
    ]
    assert len(found) > 10
    assert all(tokens == ([8, 9] if number % 2 == 0 else [5, 6]) for tokens, number in found)


def test_rows_beyond_a_batch_are_written_too(
    model: ModelArtifact, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("olivine.passes.learn.own_text.BATCH", 3)
    written = own_text(model, (PLAIN,), 7, 16, 0, cache)
    assert len({row.tobytes() for row in written}) == 7


def test_what_was_written_is_there_without_the_model(model: ModelArtifact, cache: Cache, tmp_path: Path) -> None:
    first = own_text(model, (PLAIN,), 2, 16, 0, cache)
    folder = shutil.copytree(model.path, tmp_path / "model")
    (folder / "model.onnx").write_bytes(b"no graph")
    gone = ModelArtifact(folder, model.key, model.properties)
    assert np.array_equal(own_text(gone, (PLAIN,), 2, 16, 0, cache), first)
    with pytest.raises(BuildFailed, match="can't load the graph"):
        own_text(gone, (PLAIN,), 2, 16, 1, cache)


def test_a_likelier_token_is_drawn_more_often_at_a_low_temperature(model: ModelArtifact, tmp_path: Path) -> None:
    counts = {}
    for temperature in (0.05, 5.0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("olivine.passes.learn.own_text.TEMPERATURES", (temperature,))
            written = own_text(model, (PLAIN,), 40, 2, 0, Cache(tmp_path / str(temperature)))
        counts[temperature] = np.unique(written[:, 1]).size
    assert counts[0.05] < counts[5.0]
    assert len(TEMPERATURES) > 1


def test_a_graph_with_unknown_inputs_is_refused(model: ModelArtifact, cache: Cache, tmp_path: Path) -> None:
    folder = shutil.copytree(model.path, tmp_path / "model", copy_function=shutil.copyfile)
    graph = onnx.load(folder / "model.onnx")
    graph.graph.input.append(helper.make_tensor_value_info("pixel_values", onnx.TensorProto.FLOAT, [1]))
    onnx.save(graph, folder / "model.onnx")
    with pytest.raises(PassRefused, match="inputs that can't be filled here: pixel_values"):
        own_text(ModelArtifact(folder, "other", model.properties), (PLAIN,), 2, 16, 0, cache)
