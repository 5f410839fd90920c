"""Commands of decoders that do not depend on the runtime: loading, and scoring of text."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from olivine.evaluators.process.gpu import used_bytes
from olivine.evaluators.process.messages import Done, GeneratedTokens, Loaded, Loglikelihoods, Timing, WindowScore
from olivine.evaluators.process.servers.memory import MemoryServer, trim
from olivine.evaluators.process.servers.provider import CPU, CUDA, prove_provider
from olivine.evaluators.process.servers.scoring import TopK, finite, likelihood, score, stored_window, top_k
from olivine.evaluators.process.timing import versions


class DecoderServer(MemoryServer, ABC):
    """The commands for a language model; a subclass brings the runtime."""

    @abstractmethod
    def open(self, folder: Path, config: dict[str, Any]) -> None:
        """Load the model of a folder, whose parsed genai_config.json is ``config``."""

    def activate(self, adapter: str) -> None:
        """Let the adapter of a file be active in all that follows; ONNX Runtime GenAI alone can do so.

        Raises:
            NotImplementedError: for any other runtime.
        """
        raise NotImplementedError(f"{adapter}: adapters run in ONNX Runtime GenAI, not in a plain session")

    @abstractmethod
    def prefill(self, tokens: list[int], room: int) -> Timing:
        """Time a prompt on a fresh cache with ``room`` for further tokens, to its first token."""

    @abstractmethod
    def decode(self, steps: int) -> Timing:
        """Time further tokens."""

    @abstractmethod
    def start_generation(self, tokens: list[int], room: int) -> Done:
        """Start a greedy continuation of a prompt on a fresh cache; :meth:`continue_generation` gives its tokens."""

    @abstractmethod
    def continue_generation(self, steps: int) -> GeneratedTokens:
        """Generate up to ``steps`` further tokens of the continuation."""

    @abstractmethod
    def prompt_logits(self, ids: Any) -> Any:
        """[tokens, vocabulary] logits of a prompt on a fresh cache."""

    def load(self, folder: str, adapter: str | None = None) -> Loaded:
        """Load the model, once its provider has shown itself, and the file of an adapter."""
        config = json.loads((Path(folder) / "genai_config.json").read_text())
        provider = prove_provider(Path(folder), config)
        self.on_gpu = provider == CUDA
        self.gpu_before = used_bytes() if self.on_gpu else None
        if provider != CPU:
            self.reset_peak()  # the proof held the model as well
        started = time.perf_counter()
        self.open(Path(folder), config)
        if adapter is not None:
            self.activate(adapter)
        load_ms = (time.perf_counter() - started) * 1e3
        options = config["model"]["decoder"].get("session_options", {})
        self.vocab_size = config["model"]["vocab_size"]
        return Loaded(load_ms, provider, options.get("intra_op_num_threads"), self.vocab_size, versions())

    def loglikelihoods(self, tokens: list[int], continuations: list[list[int]]) -> Loglikelihoods:
        """Score continuations whose tokens the last positions of a prompt predict, the last position their last."""
        self.scored = True
        logits = self._every_position(np.array(tokens, dtype=np.int32))
        pairs = [
            likelihood(logits[-len(ids) :].astype(np.float32, copy=False), np.array(ids, dtype=np.int32))
            for ids in continuations
        ]
        return Loglikelihoods([nats for nats, _ in pairs], [greedy for _, greedy in pairs])

    def reference(self, windows: list[tuple[list[int], int]], path: str, top_k: int) -> Done:
        """Run the windows as the base, and write the file with which candidates are compared."""
        self.scored = True
        arrays: dict[str, Any] = {}
        for number, (tokens, scored) in enumerate(windows):
            ids = np.array(tokens, dtype=np.int32)
            base, vocabulary = self._top_k(ids, scored, top_k)
            arrays |= {"vocabulary": np.int64(vocabulary)} | stored_window(number, ids, base)
        with Path(path).open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
        trim()
        return Done(True)

    def score(self, path: str, window: int) -> WindowScore:
        """Sum scores over one stored window."""
        self.scored = True
        with np.load(path) as stored:  # members are read one by one: only this window's are
            ids = stored[f"tokens_{window}"]
            base = TopK(*(stored[f"{part}_{window}"] for part in ("ids", "logp", "tail", "nll", "best")))
            vocabulary = int(stored["vocabulary"])
        logits, targets = self._logits(ids, len(base.nll))
        if logits.shape[1] != vocabulary:
            raise ValueError(f"the graph gives logits for {logits.shape[1]} tokens, the base's for {vocabulary}")
        scores = score(logits, targets, base)
        window_bytes = logits.nbytes
        del logits
        trim(window_bytes)
        if not scores.finite.all():
            return WindowScore(0.0, len(targets), 0.0, 0, finite=False)
        sums = float(scores.nll.sum()), len(targets), float(scores.kl.sum()), int(scores.agree.sum())
        return WindowScore(*sums, finite=True)

    def _top_k(self, ids: Any, scored: int, k: int) -> tuple[TopK, int]:
        """Cut a window's distributions, and count the vocabulary; its logits are gone before the next window runs."""
        logits, targets = self._logits(ids, scored)
        if not finite(logits):
            raise FloatingPointError("the model gives logits that are not finite: it can't be the base of a study")
        return top_k(logits, targets, k), logits.shape[1]

    def _logits(self, ids: Any, scored: int) -> tuple[Any, Any]:
        """Float32 logits before, and token ids at, the last ``scored`` positions of a window."""
        logits = self._every_position(ids)
        first = len(ids) - scored
        return logits[first - 1 : -1].astype(np.float32, copy=False), ids[first:]

    def _every_position(self, ids: Any) -> Any:
        """[tokens, vocabulary] logits of a prompt.

        Raises:
            ValueError: where the graph gives fewer.
        """
        logits = self.prompt_logits(ids)
        if logits.ndim != 2:
            raise ValueError(f"the graph gives logits of shape {logits.shape} for {len(ids)} positions of one text")
        if len(logits) != len(ids):
            raise ValueError(
                f"the graph gives logits for {len(logits)} of {len(ids)} positions: such a graph can't be "
                "scored; score its unpruned twin"
            )
        return logits
