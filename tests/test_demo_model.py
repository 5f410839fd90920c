"""The real demo model: what only a real model can show. Marked ``demo``; the model is fetched once and cached."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from olivine.evaluators.data.text_source import TextSource
from olivine.evaluators.data.tokenizing import tokenize
from olivine.evaluators.data.windows import TextProtocol, draw
from olivine.evaluators.process.client import ModelProcess
from olivine.passes.catalog import LANGUAGE
from olivine.passes.pipeline import build, source_artifact
from olivine.passes.sources.source import resolve
from olivine.passes.store.cache import Cache, cache_root
from olivine.search.cli.main import main

pytestmark = [pytest.mark.demo, pytest.mark.timeout(600)]

MODEL = "demo:smollm2-135m-instruct"


def test_perplexity_of_the_float_base_agrees_with_transformers(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    source, cache = resolve(MODEL), Cache(cache_root())
    base = build(source, LANGUAGE.compose({}), cache).artifact
    checkpoint = source_artifact(source, cache)
    text = tokenize("\n\n".join(TextSource.parse("demo:news").documents()[:12]), base.path)
    windows = draw(text, TextProtocol(256, 256), 3)

    with ModelProcess.open(base.path) as process:
        process.reference([(w.tokens, w.scored) for w in windows], tmp_path / "base.npz", 1)
    with np.load(tmp_path / "base.npz") as stored:
        ours = sum(stored[f"nll_{n}"].sum(dtype=np.float64) for n in range(len(windows)))

    model = AutoModelForCausalLM.from_pretrained(checkpoint.path, dtype=torch.float32)
    theirs = 0.0
    with torch.no_grad():
        for window in windows:
            ids = torch.tensor([window.tokens])
            mean = model(ids, labels=ids).loss
            theirs += float(mean) * (len(window.tokens) - 1)
    tokens = sum(w.scored for w in windows)
    assert np.exp(ours / tokens) == pytest.approx(np.exp(theirs / tokens), rel=1e-3)


def test_build_verify_and_a_flipped_byte(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["precision=int8", "activations=int8", "embedding=int8"]
    command = ["build", MODEL, "--to", str(tmp_path / "int8"), *(f"--set={s}" for s in settings)]
    assert main(command) == 0
    assert main(["verify", str(tmp_path / "int8")]) == 0
    assert main(["chat", str(tmp_path / "int8"), "--prompt", "What is rain?", "--max-new-tokens", "8"]) == 0
    manifest = json.loads((tmp_path / "int8" / "olivine.json").read_text())
    assert manifest["model"]["source"] == MODEL
    assert manifest["files"]["model.onnx.data"]["bytes"] < 200e6

    weights = tmp_path / "int8" / "model.onnx.data"
    with weights.open("r+b") as stream:
        stream.seek(weights.stat().st_size // 3)
        byte = stream.read(1)
        stream.seek(-1, 1)
        stream.write(bytes([byte[0] ^ 1]))
    capsys.readouterr()
    assert main(["verify", str(tmp_path / "int8")]) == 1
    assert "model.onnx.data was changed" in capsys.readouterr().err
