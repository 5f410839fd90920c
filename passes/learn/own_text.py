"""Own text: tokens that a float model writes itself, for its quantized copies to learn from.

Nobody has to find text of every kind that a model knows: its own samples show them (Liu et al. 2023, LLM-QAT,
arXiv 2305.17888). A model with a chat template is given the opening of a user's turn alone, so that it writes
questions, then the answers (Xu et al. 2024, Magpie, arXiv 2406.08464).

All rows are written side by side, a token each a step: that takes the time of a few of them one by one. The prompts are
part of the rows, so rows with prompts of different lengths need no padding.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from olivine.passes.artifact import ModelArtifact
from olivine.passes.cpu import available_cores
from olivine.passes.errors import BuildFailed, PassRefused
from olivine.passes.export.check import DTYPES, ort_errors
from olivine.passes.store.cache import Cache
from olivine.passes.store.digests import digest

#: Raised whenever the same model and opening would give other tokens.
VERSION = 1
#: Tokens of a row: many short texts show more than a few long ones, and each step takes longer with a longer past.
ROW_TOKENS = 128
#: Rows that are written side by side.
BATCH = 64
#: Temperatures of the rows, in turns: sure text, and text in its whole breadth.
TEMPERATURES = (0.7, 0.8, 0.9, 1.0)
#: Weights up to this are packed for the kernels. Of more, the copy would cost memory beside the loaded base.
PACKED_BYTES = 2_000_000_000
_FILE = "own-text.npy"


@dataclass(frozen=True)
class Opening:
    """The beginning of a row, and what follows each end that the model writes.

    Attributes:
        prompt: token ids, at least one.
        turns: token ids that are put behind an end-of-text token, in turns: the opening of an answer, then of the next
            question. At least one, which may be empty.
    """

    prompt: tuple[int, ...]
    turns: tuple[tuple[int, ...], ...]


def own_text(
    model: ModelArtifact, openings: Sequence[Opening], windows: int, length: int, seed: int, cache: Cache
) -> np.ndarray:
    """Let a float model write text, or take what it has written from the cache.

    Args:
        model: an ONNX Runtime GenAI folder that runs on the CPU.
        openings: of its rows, in turns.
        windows: that are wanted.
        length: tokens of a window; several rows share one.
        seed: of the draws.
        cache: keeps the text.

    Returns:
        Token ids, int32 [windows, length].

    Raises:
        PassRefused: when the graph has inputs that are unknown here.
        BuildFailed: when the graph does not run, or its logits are not finite.
    """
    about = [[opening.prompt, opening.turns] for opening in openings]
    key = digest(["own text", VERSION, model.key, about, windows, length, seed])

    def write(to: Path) -> frozenset[str]:
        np.save(to / _FILE, _write(model, openings, windows, length, seed))
        return frozenset({"own text"})

    entry = cache.get(key) or cache.put(key, write)
    written: np.ndarray = np.load(entry.path / _FILE)
    return written


def _write(model: ModelArtifact, openings: Sequence[Opening], windows: int, length: int, seed: int) -> np.ndarray:
    config = model.genai_config()["model"]
    row_tokens = min(ROW_TOKENS, length, int(config["context_length"]))
    count = -(-windows * length // row_tokens)
    scripts = [opening for opening, _ in zip(cycle(openings), range(count), strict=False)]
    ends = config.get("eos_token_id", [])
    writer = _Writer(model, frozenset(ends if isinstance(ends, list) else [ends]), np.random.default_rng(seed))
    rows = [writer.write(scripts[first : first + BATCH], row_tokens) for first in range(0, count, BATCH)]
    return np.concatenate(rows).reshape(-1)[: windows * length].reshape(windows, length)


class _Writer:
    """A model that writes many rows side by side.

    Args:
        model: its folder.
        ends: token ids that end a text.
        rng: draws tokens.
    """

    def __init__(self, model: ModelArtifact, ends: frozenset[int], rng: np.random.Generator) -> None:
        import onnxruntime as ort

        self._ends, self._rng = ends, rng
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = available_cores()
        if model.model_bytes() > PACKED_BYTES:
            options.add_session_config_entry("session.disable_prepacking", "1")
        try:
            self._session = ort.InferenceSession(str(model.onnx_path()), options, providers=["CPUExecutionProvider"])
        except ort_errors() as error:
            raise BuildFailed(f"own text: ONNX Runtime can't load the graph: {error}") from error
        decoder = model.genai_config()["model"]["decoder"]
        inputs, outputs = decoder["inputs"], decoder["outputs"]
        self._past = {
            inputs[f"past_{part}_names"] % layer: outputs[f"present_{part}_names"] % layer
            for layer in range(decoder["num_hidden_layers"])
            for part in ("key", "value")
            if f"past_{part}_names" in inputs
        }
        self._types = {value.name: DTYPES[value.type] for value in self._session.get_inputs()}
        shapes = {value.name: value.shape for value in self._session.get_inputs()}
        ranks = {name: len(shape) for name, shape in shapes.items()}
        width = next((shapes[name][-1] for name in self._past if name in shapes), None)
        width = width if isinstance(width, int) else decoder["head_size"]  # four bits pack two channels into a byte
        self._empty = (decoder["num_key_value_heads"], 0, width)
        known = {"input_ids", "attention_mask", "position_ids", *self._past}
        if ranks.get("position_ids", 2) != 2:  # M-RoPE has a row for each axis of a picture
            known.remove("position_ids")
        if unknown := sorted(set(self._types) - known):
            raise PassRefused(f"own text: the graph has inputs that can't be filled here: {', '.join(unknown[:3])}")
        self._outputs = [value.name for value in self._session.get_outputs()]

    def write(self, openings: Sequence[Opening], length: int) -> np.ndarray:
        """Token ids of the rows, int32 [openings, length]."""
        temperatures = np.resize(np.array(TEMPERATURES, np.float32), len(openings))[:, None]
        forced = [deque(opening.prompt) for opening in openings]
        turns = [cycle(opening.turns) for opening in openings]
        cache = {name: np.empty((len(openings), *self._empty), self._types[name]) for name in self._past}
        written = np.empty((len(openings), length), np.int32)
        drawn = np.full(len(openings), -1)
        for position in range(length):
            if position:
                drawn, cache = self._step(written[:, :position], cache, temperatures)
            for row, queue in enumerate(forced):
                if not queue and int(drawn[row]) in self._ends:
                    queue.extend([int(drawn[row]), *next(turns[row])])
                written[row, position] = queue.popleft() if queue else drawn[row]
        return written

    def _step(self, written: np.ndarray, cache: Any, temperatures: np.ndarray) -> tuple[np.ndarray, Any]:
        """The next token of each row, drawn, and the cache with the last one."""
        rows, length = written.shape
        feed = {"input_ids": written[:, -1:], "attention_mask": np.ones((rows, length))}
        feed["position_ids"] = np.full((rows, 1), length - 1)
        feed = {name: value.astype(self._types[name]) for name, value in feed.items() if name in self._types}
        try:
            results = dict(zip(self._outputs, self._session.run(None, {**feed, **cache}), strict=True))
        except ort_errors() as error:
            raise BuildFailed(f"own text: the graph does not run in ONNX Runtime: {error}") from error
        logits = results["logits"][:, -1].astype(np.float32, copy=False)
        if not np.isfinite(logits).all():
            raise BuildFailed("own text: the float model's logits are not finite")
        weights = np.exp((logits - logits.max(-1, keepdims=True)) / temperatures)
        sums = weights.cumsum(-1)
        below = self._rng.random((rows, 1)).astype(np.float32) * sums[:, -1:]
        drawn = np.minimum((sums < below).sum(-1), logits.shape[1] - 1)
        return drawn, {name: results[present] for name, present in self._past.items()}
