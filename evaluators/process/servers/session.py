"""Commands of decoders by a plain ONNX Runtime session, for providers whose environment can't hold GenAI.

Greedy, batch 1: a prompt on an empty cache, then one token after the other, each step's ``present`` the next one's
``past``. Long prompts go in pieces where genai_config.json says so. Both processes of a comparison run it, so that like
is compared with like. Text stays with the parent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from olivine.evaluators.process.messages import Done, GeneratedTokens, Timing
from olivine.evaluators.process.servers.decoder import DecoderServer
from olivine.evaluators.process.servers.provider import CPU, CUDA, asked_provider
from olivine.evaluators.process.timing import timed

_LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_LAYOUT", "ORT_ENABLE_ALL")
_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
}


class OnnxSession:
    """One loaded decoder and its cache.

    Args:
        ort: the module onnxruntime.
        folder: an ONNX Runtime GenAI folder.
        config: its parsed genai_config.json.
    """

    def __init__(self, ort: Any, folder: Path, config: dict[str, Any]) -> None:
        decoder = config["model"]["decoder"]
        provider, options = asked_provider(config)
        if provider == CUDA:
            ort.preload_dlls()
        session = ort.InferenceSession(
            str(folder / decoder["filename"]), session_options(ort, decoder), providers=[(provider, options)]
        )
        self._session, self._ort = session, ort
        self._device = "cpu" if provider in (CPU, "OpenVINOExecutionProvider") else "cuda"
        layers, heads = decoder["num_hidden_layers"], decoder["num_key_value_heads"]
        inputs = {graph_input.name: graph_input for graph_input in session.get_inputs()}
        self._names = set(inputs)
        self._past = [
            (decoder["inputs"][f"past_{part}_names"] % layer, decoder["outputs"][f"present_{part}_names"] % layer)
            for layer in range(layers)
            for part in ("key", "value")
        ]
        cached = inputs[self._past[0][0]]
        width = cached.shape[-1] if isinstance(cached.shape[-1], int) else decoder["head_size"]
        self._empty = np.zeros((1, heads, 0, width), _TYPES[cached.type])
        self._cache: list[Any] = []
        self._length = 0
        self._next = 0

    def start(self, ids: Any, piece: int = 0) -> Any:
        """Run a prompt on an empty cache and keep the likeliest next token.

        Args:
            ids: of the prompt.
            piece: tokens that are run at a time; 0 for all.

        Returns:
            The logits [tokens, vocabulary] of the last piece.
        """
        self._cache = [self._ort.OrtValue.ortvalue_from_numpy(self._empty) for _ in self._past]
        self._length = 0
        ids = np.asarray(ids, dtype=np.int64)
        *before, last = (ids[first : first + (piece or len(ids))] for first in range(0, len(ids), piece or len(ids)))
        for tokens in before:
            self._run(tokens)
        return self._run(last)

    def step(self) -> None:
        """Feed the likeliest token, and compute the one after it."""
        self._run(np.array([self._next], dtype=np.int64))

    @property
    def token(self) -> int:
        """The likeliest next token."""
        return self._next

    def _run(self, ids: Any) -> Any:
        before, self._length = self._length, self._length + len(ids)
        feed = {"input_ids": ids[None], "attention_mask": np.ones((1, self._length), dtype=np.int64)}
        if "position_ids" in self._names:
            feed["position_ids"] = np.arange(before, self._length, dtype=np.int64)[None]
        binding = self._session.io_binding()
        for name, value in feed.items():
            binding.bind_cpu_input(name, value)
        for (past, _), value in zip(self._past, self._cache, strict=True):
            binding.bind_ortvalue_input(past, value)
        binding.bind_output("logits", "cpu")
        for _, present in self._past:
            binding.bind_output(present, self._device)
        self._session.run_with_iobinding(binding)
        logits, *self._cache = binding.get_outputs()
        rows = logits.numpy()[0]
        self._next = int(rows[-1].argmax())
        return rows


class SessionServer(DecoderServer):
    """A language model in an :class:`OnnxSession`."""

    def open(self, folder: Path, config: dict[str, Any]) -> None:
        """Load the model of a folder."""
        import onnxruntime as ort

        self._session = OnnxSession(ort, folder, config)
        ends = config["model"].get("eos_token_id", [])
        self._ends = set(ends if isinstance(ends, list) else [ends])
        self._piece = int(config.get("search", {}).get("chunk_size") or 0)
        self._room = 0

    def prefill(self, tokens: list[int], room: int) -> Timing:
        """Time a prompt on a fresh cache, to its first token; the cache grows as it is needed."""
        ids = np.array(tokens, dtype=np.int64)
        return timed(lambda: self._session.start(ids, self._piece), 1)

    def decode(self, steps: int) -> Timing:
        """Time further tokens."""
        return timed(self._session.step, steps)

    def start_generation(self, tokens: list[int], room: int) -> Done:
        """Start a greedy continuation of a prompt on a fresh cache; :meth:`continue_generation` gives its tokens."""
        self._session.start(np.array(tokens, dtype=np.int64), self._piece)
        self._room = room
        return Done(True)

    def continue_generation(self, steps: int) -> GeneratedTokens:
        """Generate up to ``steps`` further tokens of the continuation."""
        ids: list[int] = []
        while self._room > 0 and len(ids) < steps:
            ids.append(self._session.token)
            self._room = 0 if self._session.token in self._ends else self._room - 1
            if self._room > 0:
                self._session.step()
        return GeneratedTokens(ids, self._room == 0)

    def prompt_logits(self, ids: Any) -> Any:
        """[tokens, vocabulary] logits of a prompt on a fresh cache."""
        return self._session.start(ids)


def session_options(ort: Any, decoder: dict[str, Any]) -> Any:
    """Read a session's options from genai_config.json as GenAI does: no number of threads means 1, and 0 all cores."""
    settings = decoder.get("session_options", {})
    options = ort.SessionOptions()
    threads = settings.get("intra_op_num_threads")
    options.intra_op_num_threads = 1 if threads is None else int(threads)
    level = settings.get("graph_optimization_level", "ORT_ENABLE_ALL")
    if level not in _LEVELS:
        raise ValueError(f"genai_config.json: unknown graph_optimization_level {level!r}")
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    for key, value in settings.items():
        if "." in key:  # a config entry of ONNX Runtime, such as session.intra_op.allow_spinning
            options.add_session_config_entry(key, str(value))
    return options
