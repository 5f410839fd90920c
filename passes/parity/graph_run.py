"""The exported graph, run in ONNX Runtime as a deployment runs it: a prompt, one token, and pieces behind the cache."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from olivine.passes.artifact import GENAI_CONFIG
from olivine.passes.export.check import DTYPES, PACKED_BYTES

#: What an output of one piece is called as the input of the next.
_PAST = {"present": "past_key_values"}
_STATES = ("conv", "recurrent")


class GraphRun:
    """A session on the decoder graph of a folder, or on a copy of it that gives more.

    Attributes:
        decoder: the decoder entry of genai_config.json.
    """

    def __init__(self, folder: Path, graph: Path | None = None, adapter: Path | None = None) -> None:
        """Open the graph on the CPU.

        Args:
            folder: ONNX Runtime GenAI folder.
            graph: stands in for the one that genai_config.json names.
            adapter: file of an adapter that is active.
        """
        import onnxruntime as ort

        self.decoder = self.decoder_of(folder)
        path = graph or folder / self.decoder["filename"]
        options = ort.SessionOptions()
        options.log_severity_level = 4
        if sum(file.stat().st_size for file in folder.glob(f"{self.decoder['filename']}*")) > PACKED_BYTES:
            options.add_session_config_entry("session.disable_prepacking", "1")
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._run = ort.RunOptions()
        if adapter is not None:
            self._adapter = ort.LoraAdapter()
            self._adapter.Load(str(adapter))
            self._run.add_active_adapter(self._adapter)

    @staticmethod
    def decoder_of(folder: Path) -> dict[str, Any]:
        """The decoder entry of a folder's genai_config.json."""
        decoder: dict[str, Any] = json.loads((folder / GENAI_CONFIG).read_text())["model"]["decoder"]
        return decoder

    def logits(self, ids: Sequence[int], pieces: Sequence[int]) -> Iterator[np.ndarray]:
        """Logits [tokens of the piece, vocabulary] of each piece, in order, float32."""
        cache: dict[str, np.ndarray] = {}
        start = 0
        for length in pieces:
            names = ["logits", *(name for name in self._outputs if name.startswith("present"))]
            values = self._session.run(names, self._feed(ids[start : start + length], start, cache), self._run)
            cache = {_past(name): value for name, value in zip(names[1:], values[1:], strict=True)}
            yield values[0][0].astype(np.float32)
            start += length

    def values(self, ids: Sequence[int], names: Sequence[str]) -> list[np.ndarray]:
        """Outputs of the graph, or of a copy that gives them, each [tokens, features], of all tokens at once."""
        return [
            value[0].astype(np.float32) for value in self._session.run(list(names), self._feed(ids, 0, {}), self._run)
        ]

    def _feed(self, ids: Sequence[int], start: int, cache: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        length = len(ids)
        rows = {"input_ids": np.array(ids), "position_ids": np.arange(start, start + length)}
        feed = {}
        for graph_input in self._session.get_inputs():
            dtype = DTYPES[graph_input.type]
            if graph_input.name in rows:
                shape = (3, 1, length) if len(graph_input.shape) == 3 else (1, length)  # of M-RoPE: one row an axis
                feed[graph_input.name] = np.broadcast_to(rows[graph_input.name], shape).astype(dtype)
            elif graph_input.name == "attention_mask":
                feed[graph_input.name] = np.ones((1, start + length), dtype)
            else:
                feed[graph_input.name] = (
                    cache[graph_input.name]
                    if graph_input.name in cache
                    else np.zeros(self._empty(graph_input.shape), dtype)
                )
        return feed

    def _empty(self, shape: Sequence[int | str | None]) -> list[int]:
        """The shape of a cache that holds nothing."""
        names = {"batch_size": 1, "kv_cache_dim": int(self.decoder["head_size"])}
        return [size if isinstance(size, int) else names.get(str(size), 0) for size in shape]


def _past(output: str) -> str:
    head, _, rest = output.partition(".")
    return f"past.{rest}" if rest.endswith(_STATES) else f"{_PAST[head]}.{rest}"
