"""Commands of graphs that are no decoders: named inputs in, outputs out."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from olivine.evaluators.process.messages import Done, Loaded, OutputScore, Timing
from olivine.evaluators.process.servers.memory import MemoryServer
from olivine.evaluators.process.servers.provider import CPU
from olivine.evaluators.process.timing import timed, versions


class GraphServer(MemoryServer):
    """A graph in a plain ONNX Runtime session; its folder has ``model.onnx`` and ``session.json``."""

    def __init__(self) -> None:
        super().__init__()
        self._session: Any = None
        self._feeds: dict[tuple[str, int], dict[str, Any]] = {}

    def load(self, folder: str) -> Loaded:
        """Load the graph on the CPU provider."""
        import onnxruntime as ort

        settings = json.loads((Path(folder) / "session.json").read_text())
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = settings["intra_op_num_threads"]
        started = time.perf_counter()
        self._session = ort.InferenceSession(str(Path(folder) / "model.onnx"), options, providers=[CPU])
        load_ms = (time.perf_counter() - started) * 1e3
        return Loaded(load_ms, CPU, options.intra_op_num_threads, 0, versions())

    def run(self, feeds: str, number: int, times: int) -> Timing:
        """Time runs on one feed."""
        feed = self._feed(feeds, number)
        return timed(lambda: self._session.run(None, feed), times)

    def outputs(self, feeds: str, count: int, path: str, output: str | None) -> Done:
        """Write the graph's output for each of the first feeds."""
        self.scored = True
        arrays = {str(number): self._output(feeds, number, output) for number in range(count)}
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise FloatingPointError("the graph gives outputs that are not finite")
        with Path(path).open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
        return Done(True)

    def compare(
        self, feeds: str, number: int, stored: str, output: str | None, logits: bool, apart: bool = False
    ) -> OutputScore:
        """Compare an output with a stored one."""
        self.scored = True
        own = self._output(feeds, number, output)
        with np.load(stored) as arrays:
            base = arrays[str(number)]
        if own.shape != base.shape:
            raise ValueError(f"the graph gives an output of shape {own.shape}, the base one of {base.shape}")
        if not np.isfinite(own).all():
            return OutputScore(0.0, 0.0, 0.0, finite=False)
        kl, agree = divergence(base, own, apart) if logits else (0.0, 1.0)
        return OutputScore(cosine(base, own), kl, agree, finite=True)

    def _output(self, feeds: str, number: int, output: str | None) -> Any:
        """The output of this name in float32; the first one by default."""
        names = [graph_output.name for graph_output in self._session.get_outputs()]
        if output is not None and output not in names:
            raise ValueError(f"the graph has no output '{output}'; it has {', '.join(names)}")
        array = self._session.run([output or names[0]], self._feed(feeds, number))[0]
        return np.asarray(array, dtype=np.float32)

    def _feed(self, feeds: str, number: int) -> dict[str, Any]:
        if (feeds, number) not in self._feeds:
            prefix = f"{number}/"
            with np.load(feeds) as stored:
                names = [name for name in stored.files if name.startswith(prefix)]
                self._feeds[feeds, number] = {name.removeprefix(prefix): stored[name] for name in names}
        return self._feeds[feeds, number]


def cosine(base: Any, own: Any) -> float:
    """Mean cosine of float [batch, ...] arrays, each item as one vector; of zeros only where both are.

    An item of one value has no direction: it counts 1 less its difference, as a share of the value where that is large.
    """
    a, b = (np.asarray(array, dtype=np.float64).reshape(len(array), -1) for array in (base, own))
    if a.shape[1] == 1:
        shares = np.abs(a - b) / np.maximum(1.0, np.maximum(np.abs(a), np.abs(b)))
        return float(np.clip(1 - shares, -1, 1).mean())
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    same = (a == b).all(axis=1)  # equal vectors have no rounding error between them
    cosines = np.divide((a * b).sum(axis=1), lengths, out=np.zeros(len(a)), where=lengths > 0)
    return float(np.where(same, 1.0, np.clip(cosines, -1, 1)).mean())


def divergence(base: Any, own: Any, apart: bool = False) -> tuple[float, float]:
    """Mean KL(base || own) in nats over [..., classes] logits, and the share that agrees on the likeliest class.

    A single logit is of yes, beside a no of logit 0 (the sigmoid); with ``apart`` each logit is.
    """
    a, b = (np.asarray(array, dtype=np.float64) for array in (base, own))
    if apart or a.shape[-1] == 1:
        a, b = (np.stack([np.zeros_like(array), array], axis=-1) for array in (a, b))
    p, q = log_softmax(a), log_softmax(b)
    kl = (np.exp(p) * (p - q)).sum(axis=-1)
    agree = p.argmax(axis=-1) == q.argmax(axis=-1)
    return max(0.0, float(kl.mean())), float(agree.mean())


def log_softmax(logits: Any) -> Any:
    """Logarithms of the probabilities of logits, over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
