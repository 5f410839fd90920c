"""A base that is scored layer by layer has the predictions of its graph, and a kill costs one layer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_checkpoint

from olivine.evaluators.data.tokenizing import tokenize
from olivine.evaluators.data.windows import TextProtocol, Window, draw
from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.quality.streamed.base import StreamedBase
from olivine.evaluators.quality.text_quality import TextQuality
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import OlivineError
from olivine.passes.pipeline import build
from olivine.passes.sources.source import resolve
from olivine.passes.store.cache import Cache

TEXT = " ".join(f"The bank of the river was green {n} times, and the price of bread rose." for n in range(60))


def asked(windows: tuple[Window, ...]) -> list[tuple[tuple[int, ...], int]]:
    return [(window.tokens, window.scored) for window in windows]


@pytest.mark.parametrize(
    ("architecture", "dtype"),
    [("qwen3", "bfloat16"), ("gemma3", "float32")],
)
def test_every_figure_of_quality_is_that_of_the_loaded_base(
    open_process: Callable[..., ModelProcess], tmp_path: Path, architecture: str, dtype: str
) -> None:
    checkpoint = narrowed(tiny_checkpoint(tmp_path / "checkpoint", architecture), dtype)
    source, cache = resolve(str(checkpoint)), Cache(tmp_path / "cache")
    onnx, int4 = (
        build(source, LANGUAGE.compose(LANGUAGE.canonical({"precision": precision})), cache).artifact.path
        for precision in ("fp32", "int4")
    )
    windows = draw(tokenize(TEXT, onnx), TextProtocol(64, 32), count=4)
    base, candidate = open_process(onnx), open_process(int4)
    figures = []
    for name in ("loaded", "streamed"):
        quality = TextQuality(windows, tmp_path / name, "tiny")
        if name == "streamed":
            (tmp_path / name).mkdir()
            notes: list[str] = []
            assert StreamedBase(lambda: checkpoint).write(asked(windows), quality.reference_path(), 512, notes.append)
            assert len(notes) == 2
            assert os.listdir(tmp_path / name) == [quality.reference_path().name]
        figures.append({m.metric: m for m in quality.evaluate(candidate, base)})
    loaded, streamed = figures
    for metric in TextQuality.metrics:
        assert streamed[metric].value == pytest.approx(loaded[metric].value, rel=1e-3, abs=1e-4), metric
        assert streamed[metric].high == pytest.approx(loaded[metric].high, rel=1e-3, abs=1e-4), metric


def narrowed(checkpoint: Path, dtype: str) -> Path:
    """Round a checkpoint's weights to a type, in place."""
    import torch
    from safetensors.torch import load_file, save_file

    file = checkpoint / "model.safetensors"
    save_file({name: w.to(getattr(torch, dtype)) for name, w in load_file(file).items()}, file, {"format": "pt"})
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"dtype": dtype}))
    return checkpoint


KILLED_AFTER = """
import sys
from olivine.evaluators.quality.streamed import child
said = child._say
def say(message):
    said(message)
    if message.startswith("layer 2 "):
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
child._say = say
child.main()
"""


def test_a_killed_run_goes_on_after_its_last_layer_with_the_same_result(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "checkpoint", layers=4)
    windows = [(list(range(5, 25)), 19), (list(range(30, 45)), 10)]
    base, notes = StreamedBase(lambda: checkpoint), list[str]()
    (tmp_path / "killed").mkdir()
    (tmp_path / "whole").mkdir()
    path = tmp_path / "killed" / "reference.npz"
    request = {"checkpoint": str(checkpoint), "windows": windows, "path": str(path), "top_k": 8}
    request["scratch"] = str(path.with_suffix(".layers"))
    ended = subprocess.run([sys.executable, "-c", KILLED_AFTER], input=json.dumps(request).encode(), check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not path.exists()
    assert base.write(windows, path, 8, notes.append)
    assert notes[0] == "base, goes on after layer 2 of 4"
    assert [note.split(",")[1] for note in notes[1:]] == [" layer 3 of 4", " layer 4 of 4"]
    assert base.write(windows, tmp_path / "whole" / "reference.npz", 8, lambda note: None)
    with np.load(path) as resumed, np.load(tmp_path / "whole" / "reference.npz") as whole:
        assert sorted(resumed.files) == sorted(whole.files)
        assert all(np.array_equal(resumed[name], whole[name]) for name in whole.files)


def test_a_checkpoint_with_another_layout_is_left_to_its_graph_and_said_so(tmp_path: Path) -> None:
    from transformers import GPT2Config

    sizes = {"n_embd": 32, "n_layer": 1, "n_head": 2, "vocab_size": 320, "n_positions": 64}
    checkpoint = tiny_checkpoint(tmp_path / "checkpoint", config=GPT2Config(**sizes))
    notes: list[str] = []
    assert not StreamedBase(lambda: checkpoint).write([([1, 2, 3], 2)], tmp_path / "r.npz", 8, notes.append)
    assert "loaded whole" in notes[-1]
    assert "has no list of decoder layers" in notes[-1]
    assert not (tmp_path / "r.npz").exists()


def test_logits_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    checkpoint = tiny_checkpoint(tmp_path / "checkpoint")
    weights = load_file(checkpoint / "model.safetensors")
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], float("nan"))
    save_file(weights, checkpoint / "model.safetensors", {"format": "pt"})
    with pytest.raises(OlivineError, match="can't be the base of a study"):
        StreamedBase(lambda: checkpoint).write([([1, 2, 3], 2)], tmp_path / "r.npz", 8, lambda note: None)
