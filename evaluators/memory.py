"""Costs of a model beside its speed: bytes on disk, memory, time to load."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.protocols import LoadedGraph, LoadedProcess
from olivine.passes.artifact import GENAI_CONFIG


@dataclass(frozen=True)
class Memory:
    """``model_bytes``, ``peak_rss_bytes`` and ``load_ms`` of a candidate.

    The peak is that of the model's own process over loading, one prompt and a few new tokens, as a user would
    run it; Python and the libraries are part of it (some 50 MB). Run it on a process that has just been loaded, before
    quality: scoring holds the logits of a whole window, which no deployment does. On a process that has scored
    already, the peak starts anew from what is resident, and the protocol says ``"fresh": false``.

    Attributes:
        prompt_tokens: length of the prompt.
        new_tokens: tokens generated after it.
    """

    prompt_tokens: int = 128
    new_tokens: int = 4

    name: ClassVar[str] = "memory"
    metrics: ClassVar[tuple[str, ...]] = ("model_bytes", "peak_rss_bytes", "gpu_memory_bytes", "load_ms")

    def evaluate(self, candidate: LoadedProcess, reference: LoadedProcess) -> list[Measurement]:
        """Measure ``candidate``; ``reference`` is not used.

        Raises:
            ValueError: when ``candidate`` has no model yet.
        """
        if candidate.loaded is None or candidate.folder is None:
            raise ValueError("load a model into the process before measuring its memory")
        fresh = not candidate.stats().scored
        protocol = {"prompt_tokens": self.prompt_tokens, "new_tokens": self.new_tokens, "fresh": fresh}
        if not fresh:
            protocol["peak_reset"] = candidate.reset_peak()
        rng = np.random.default_rng(0)
        prompt = rng.integers(0, candidate.loaded.vocab_size, self.prompt_tokens)
        candidate.prefill(prompt.tolist(), self.new_tokens)
        candidate.decode(self.new_tokens)
        stats = candidate.stats()
        peak = stats.peak_rss_bytes
        gpu_bytes = [] if stats.gpu_bytes is None else [stats.gpu_bytes]
        device = "all that it holds, less what it held before"
        return [
            *(Measurement.exact("gpu_memory_bytes", "bytes", each, device=device) for each in gpu_bytes),
            Measurement.exact("model_bytes", "bytes", model_bytes(candidate.folder)),
            Measurement.exact("peak_rss_bytes", "bytes", peak, **protocol),
            Measurement.exact("load_ms", "ms", candidate.loaded.load_ms, samples="one load; files may be cached"),
        ]


@dataclass(frozen=True)
class GraphMemory:
    """``peak_rss_bytes`` and ``load_ms`` of a graph that is no decoder; run it on a process that has just loaded it.

    Attributes:
        feeds: .npz with one feed a named shape.
        shapes: number of the shapes.
    """

    feeds: Path
    shapes: int

    name: ClassVar[str] = "memory"
    metrics: ClassVar[tuple[str, ...]] = ("peak_rss_bytes", "load_ms")

    def evaluate(self, candidate: LoadedGraph, reference: LoadedGraph) -> list[Measurement]:
        """Measure ``candidate`` after a run of every shape; ``reference`` is not used.

        Raises:
            ValueError: when ``candidate`` has no model yet.
        """
        if candidate.loaded is None:
            raise ValueError("load a graph into the process before measuring its memory")
        for number in range(self.shapes):
            candidate.run(self.feeds, number, 1)
        peak = candidate.stats().peak_rss_bytes
        return [
            Measurement.exact("peak_rss_bytes", "bytes", peak, after="a run of every shape"),
            Measurement.exact("load_ms", "ms", candidate.loaded.load_ms, samples="one load; files may be cached"),
        ]


def model_bytes(folder: Path) -> int:
    """Bytes of the decoder graph and its external data in an ONNX Runtime GenAI folder."""
    config = json.loads((folder / GENAI_CONFIG).read_text())
    graph = str(config["model"]["decoder"]["filename"])
    files = (p for p in folder.rglob("*") if p.is_file())
    return sum(p.stat().st_size for p in files if p.name == graph or p.name.startswith(graph + "."))
