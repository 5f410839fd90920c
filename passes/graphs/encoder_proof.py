"""The gate of an exported encoder: its outputs beside those of its checkpoint, at sizes that it was not traced with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from olivine.passes.errors import WrongGraph
from olivine.passes.graphs.encoder import EncoderForm, load_encoder

#: The difference of an output that rounding explains, as a share of the outputs' spread.
TOLERANCE = 2e-4
#: Texts of each batch and their tokens; the last one of a batch is half as long as the others.
_TEXTS = ((1, 3), (3, 17), (2, 64))
_IMAGES = (1, 3)


def prove_encoder(checkpoint: Path, graph: Path) -> dict[str, Any]:
    """Compare an exported graph with its checkpoint, run by transformers in float32.

    Returns:
        ``inputs`` (how many), ``largest_difference``, ``spread`` (standard deviation of the checkpoint's outputs),
        ``output`` (its name) and ``seconds``.

    Raises:
        WrongGraph: when an output differs by more than rounding.
        SourceError: when the checkpoint can't be loaded.
    """
    import onnxruntime as ort
    import torch

    started = time.perf_counter()
    _, form = load_encoder(checkpoint)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    worst, spread, count = 0.0, 0.0, 0
    for feed in _feeds(form):
        with torch.no_grad():
            expected = form.run({name: torch.from_numpy(value) for name, value in feed.items()}).numpy()
        (computed,) = session.run([form.output], feed)
        if computed.shape != expected.shape:
            raise WrongGraph(
                f"{graph} gives '{form.output}' of shape {computed.shape}; its checkpoint {expected.shape}"
            )
        difference = float(np.nan_to_num(np.abs(computed - expected), nan=np.inf).max())
        worst, spread, count = max(worst, difference), max(spread, float(expected.std())), count + len(expected)
    if not worst <= TOLERANCE * spread:
        raise WrongGraph(
            f"The graph that was exported of {checkpoint} is not its model: '{form.output}' differs by up to "
            f"{worst:.2g} (outputs spread by {spread:.2g}). Export it to ONNX yourself, and give the .onnx file."
        )
    seconds = round(time.perf_counter() - started, 3)
    return {"inputs": count, "largest_difference": worst, "spread": spread, "output": form.output, "seconds": seconds}


def _feeds(form: EncoderForm) -> Iterator[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    if not form.longest:
        for batch in _IMAGES:
            yield {
                name: rng.standard_normal((batch, *value.shape[1:])).astype(np.float32)
                for name, value in form.example.items()
            }
        return
    for batch, tokens in _TEXTS:
        length = min(tokens, form.longest)
        mask = np.ones((batch, length), np.int64)
        if batch > 1:
            mask[-1, length // 2 :] = 0
        ids = rng.integers(2, form.vocabulary, (batch, length))
        others = {name: np.zeros((batch, length), np.int64) for name in form.example}
        yield others | {"input_ids": ids, "attention_mask": mask}
