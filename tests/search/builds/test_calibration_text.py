"""Calibration text: which windows passes learn from, and the flags that give them again."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from tiny_study import tiny_config, write_text

from olivine.evaluators.data.text_source import TextSource, splits
from olivine.evaluators.data.tokenizing import tokenize
from olivine.evaluators.data.windows import TextProtocol, draw
from olivine.passes.artifact import ModelArtifact
from olivine.passes.learn.calibration import load_tokens, store_tokens
from olivine.passes.store.cache import Cache
from olivine.search.builds.calibration_text import Calibration, CalibrationText
from olivine.search.builds.own_openings import openings_of
from olivine.search.cli.main import main


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def base(tiny_onnx: Path) -> ModelArtifact:
    return ModelArtifact(tiny_onnx, "tiny", frozenset({"onnx", "float"}))


def given(path: Path, base: ModelArtifact, count: int) -> np.ndarray:
    """The windows that version 0.1.0 drew."""
    joined = "\n\n".join(splits(TextSource.parse(str(path)).documents(), 0)["calibrate"])
    windows = draw(tokenize(joined, base.path), TextProtocol(24, 24), count, 0)
    return np.array([window.tokens for window in windows], np.int32)


def test_text_without_more_is_what_it_was_in_0_1_0(base: ModelArtifact, cache: Cache, tmp_path: Path) -> None:
    path = write_text(tmp_path / "text.txt")
    learned = CalibrationText(str(path), 4, 24).store(base, cache)
    assert learned.key == store_tokens(cache, given(path, base, 4))
    assert learned.to_json() == {
        "text": "text.txt",
        "windows": 4,
        "window_tokens": 24,
        "seed": 0,
        "split": "calibrate",
        "key": learned.key,
    }
    assert learned.flags() == [
        f"--calibrate-text {shlex.quote(str(path))}",
        "--calibrate-windows 4",
        "--calibrate-window-tokens 24",
        "--calibrate-seed 0",
    ]


def test_own_and_further_texts_stand_beside_it_in_turns(base: ModelArtifact, cache: Cache, tmp_path: Path) -> None:
    path, other = write_text(tmp_path / "text.txt"), write_text(tmp_path / "other.txt", words=50)
    learned = CalibrationText(str(path), 3, 24, texts=(str(other),), own=0.5).store(base, cache)
    tokens = load_tokens(cache, learned.key)
    assert tokens.shape == (12, 24)
    assert np.array_equal(tokens[[0, 3, 6]], given(path, base, 3))
    assert np.array_equal(tokens[[2, 5, 8]], given(other, base, 3))
    assert (learned.to_json()["texts"], learned.to_json()["own"]) == (["other.txt"], 0.5)


@pytest.mark.usefixtures("olivine_cache")
def test_the_flags_of_a_mixed_text_build_from_the_same_windows(
    base: ModelArtifact, tiny_llama: Path, tmp_path: Path
) -> None:
    path, other = write_text(tmp_path / "text.txt"), write_text(tmp_path / "other.txt", documents=20, words=50)
    learned = CalibrationText(str(path), 30, 24, texts=(str(other),), own=0.25).store(base, Cache(tmp_path / "cache"))
    flags = [word for flag in learned.flags() for word in shlex.split(flag)]
    settings = ["precision=int4", "algorithm=gptq", "block_size=32", "threads=1"]
    for name in ("once", "again"):
        command = ["build", str(tiny_llama), "--to", str(tmp_path / name), *flags]
        assert main([*command, *(word for value in settings for word in ("--set", value))]) == 0
    files = [(tmp_path / name / "model.onnx.data").read_bytes() for name in ("once", "again")]
    assert files[0] == files[1]


def test_a_model_that_can_not_write_learns_from_the_given_text_alone_and_says_so(
    base: ModelArtifact, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from olivine.passes.errors import PassRefused

    def refuse(*_: object) -> np.ndarray:
        raise PassRefused("own text: the graph has inputs that can't be filled here: pixel_values")

    path = write_text(tmp_path / "text.txt")
    monkeypatch.setattr("olivine.search.builds.calibration_text.own_text", refuse)
    learned: Calibration = CalibrationText(str(path), 4, 24, own=0.5).store(base, cache)
    assert learned.key == CalibrationText(str(path), 4, 24).store(base, cache).key
    assert "own" not in learned.to_json()
    (note,) = learned.notes
    assert note.startswith("candidates learn from the given text alone. own text: the graph has inputs")


def test_a_study_takes_what_its_yaml_says(tiny_llama: Path, tmp_path: Path) -> None:
    path = write_text(tmp_path / "text.txt")
    config = tiny_config(tiny_llama, path, calibration={"windows": 3, "texts": ["demo:encyclopedia"], "own": "25%"})
    assert CalibrationText.of_study(config) == CalibrationText(
        {"file": str(path)}, 3, 512, 0, ("demo:encyclopedia",), 0.25
    )
    plain = tiny_config(tiny_llama, path, calibration={"own": 0})
    assert CalibrationText.of_study(plain) == CalibrationText.of_study(tiny_config(tiny_llama, path))


def test_openings_are_plain_text_and_a_users_turn(base: ModelArtifact) -> None:
    plain, *chat = openings_of(base)
    assert len(plain.prompt) == 1
    assert all(opening.prompt and len(opening.turns) == 2 for opening in chat)
