"""Perplexity of an exported float model is that of its checkpoint in transformers, on the same tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from olivine.evaluators.data.tokenizing import tokenize
from olivine.evaluators.data.windows import TextProtocol, Window, draw
from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.quality.text_quality import TextQuality

TEXT = " ".join(f"The bank of the river was green {n} times, and the price of bread rose." for n in range(60))


def transformers_perplexity(checkpoint: Path, windows: tuple[Window, ...]) -> float:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    nll, count = 0.0, 0
    for window in windows:
        ids = torch.tensor([window.tokens])
        with torch.no_grad():
            logp = torch.log_softmax(model(ids).logits[0].float(), dim=-1)
        first = len(window.tokens) - window.scored
        picked = logp[first - 1 : -1].gather(1, ids[0, first:, None])
        nll -= float(picked.double().sum())
        count += window.scored
    return float(np.exp(nll / count))


@pytest.mark.parametrize("stride", [64, 32])
def test_perplexity_of_a_float_model_is_that_of_transformers(
    open_process: Callable[..., ModelProcess], tiny_llama: Path, tiny_onnx: Path, tmp_path: Path, stride: int
) -> None:
    windows = draw(tokenize(TEXT, tiny_onnx), TextProtocol(64, stride), count=6)
    base = open_process(tiny_onnx)
    measured = {m.metric: m for m in TextQuality(windows, tmp_path, "tiny").evaluate(base, base)}
    assert measured["perplexity"].value == pytest.approx(transformers_perplexity(tiny_llama, windows), rel=1e-3)


def test_genais_own_tokenizer_gives_the_same_ids(open_process: Callable[..., ModelProcess], tiny_onnx: Path) -> None:
    measured = tokenize(TEXT, tiny_onnx)
    assert tuple(open_process(tiny_onnx).tokenize(TEXT)) in (measured.ids, measured.bos + measured.ids)
