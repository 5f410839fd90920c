"""The child side of a process: one model, one request at a time, JSON lines on stdin and stdout.

Started by :mod:`olivine.evaluators.process.client`, maybe under an interpreter that has no olivine: imports only the
standard library, numpy, onnxruntime and onnxruntime_genai, and neighbours that do the same. Nothing
is caught here: an exception ends the process, its traceback on stderr is the error message of the parent.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from olivine.evaluators.process.gpu import used_bytes
from olivine.evaluators.process.lifecycle import begin
from olivine.evaluators.process.onnx_session import OnnxSession
from olivine.evaluators.process.procfs import busy_s
from olivine.evaluators.process.scoring import TopK, likelihood, score, top_k
from olivine.evaluators.providers.session import CPU, CUDA, ProviderUnavailable, prove_provider

EXIT_PROVIDER = 3
#: Arguments that ask for a plain session, and for a graph that is no decoder.
SESSION = "session"
GRAPH = "graph"
PARENT_CHECK_S = 2.0
#: Prompts' logits that a process keeps room for, so that no prompt waits for memory, and the most bytes of it.
RESERVED_LOGITS, MOST_RESERVED = 4, 256 << 20


class Server:
    """The commands, by GenAI; each method's keyword arguments are those of the request, its dict is the answer."""

    def __init__(self, genai: Any) -> None:
        self.genai = genai
        self.model: Any = None
        self.generator: Any = None
        self.scored = False
        self.on_gpu = False
        self.gpu_before: int | None = None
        self.vocab_size = 0

    def open(self, folder: str, config: dict[str, Any]) -> None:
        """Load the model of a folder."""
        self.model = self.genai.Model(folder)

    def load(self, folder: str) -> dict[str, Any]:
        """Load the model, once its provider has shown itself."""
        config = json.loads((Path(folder) / "genai_config.json").read_text())
        provider = prove_provider(Path(folder), config)
        self.on_gpu = provider == CUDA
        self.gpu_before = used_bytes() if self.on_gpu else None
        if provider != CPU:
            self.reset_peak()  # the proof held the model as well
        started = time.perf_counter()
        self.open(folder, config)
        load_ms = (time.perf_counter() - started) * 1e3
        options = config["model"]["decoder"].get("session_options", {})
        self.vocab_size = config["model"]["vocab_size"]
        return {
            "load_ms": load_ms,
            "provider": provider,
            "threads": options.get("intra_op_num_threads"),
            "vocab_size": self.vocab_size,
            "versions": versions(),
        }

    def reserve(self, tokens: int, most: int) -> dict[str, Any]:
        """Touch memory for the logits of prompts of so many tokens and free it: it stays with the process; 0 trims."""
        if tokens == 0:
            trim()
        wanted = RESERVED_LOGITS * 4 * tokens * self.vocab_size
        held = 0 if self.on_gpu else min(wanted, MOST_RESERVED, most)
        np.ones(held, dtype=np.uint8)
        return {"done": held == wanted}

    def prefill(self, tokens: list[int], room: int) -> dict[str, Any]:
        """Time a prompt on a fresh cache, to its first token."""
        ids = np.array(tokens, dtype=np.int32)
        self.generator = None  # the last cache goes before the next one comes
        self.generator = generator = self._generator(len(ids) + room + 1)

        def first_token() -> None:
            generator.append_tokens(ids)
            self.next_token()

        return timed(first_token, 1)

    def decode(self, steps: int) -> dict[str, Any]:
        """Time further tokens."""
        return timed(self.next_token, steps)

    def next_token(self) -> None:
        """Generate a token; on a GPU, also fetch it: only then has the device done the work that is timed."""
        self.generator.generate_next_token()
        if self.on_gpu:
            self.generator.get_next_tokens()

    def tokenize(self, text: str) -> dict[str, Any]:
        """Token ids, by GenAI's tokenizer."""
        return {"tokens": self.genai.Tokenizer(self.model).encode(text).tolist()}

    def generate(self, prompt: str, max_new_tokens: int) -> dict[str, Any]:
        """Greedy continuation of a prompt."""
        tokenizer = self.genai.Tokenizer(self.model)
        ids = tokenizer.encode(prompt)
        generator = self._generator(len(ids) + max_new_tokens, min_length=0)
        generator.append_tokens(ids)
        while not generator.is_done():
            generator.generate_next_token()
        return {"text": tokenizer.decode(generator.get_sequence(0)[len(ids) :])}

    def begin(self, tokens: list[int], room: int) -> dict[str, Any]:
        """Start a greedy continuation of a prompt on a fresh cache; :meth:`more` gives its tokens."""
        self.generator = None
        self.generator = self._generator(len(tokens) + room, min_length=0)
        self.generator.append_tokens(np.array(tokens, dtype=np.int32))
        return {"done": True}

    def more(self, steps: int) -> dict[str, Any]:
        """Up to ``steps`` further tokens of what :meth:`begin` started."""
        before = len(self.generator.get_sequence(0))
        for _ in range(steps):
            if self.generator.is_done():
                break
            self.generator.generate_next_token()
        written = [int(token) for token in self.generator.get_sequence(0)[before:]]
        return {"tokens": written, "done": bool(self.generator.is_done())}

    def endings(self, tokens: list[int], endings: list[list[int]]) -> dict[str, Any]:
        """How likely each ending is whose tokens the last positions of a prompt predict, the last position its last."""
        self.scored = True
        logits = self._every_position(np.array(tokens, dtype=np.int32))
        found = [
            likelihood(logits[-len(ending) :].astype(np.float32, copy=False), np.array(ending, dtype=np.int32))
            for ending in endings
        ]
        return {"logp": [logp for logp, _ in found], "greedy": [greedy for _, greedy in found]}

    def reference(self, windows: list[tuple[list[int], int]], path: str, top_k: int) -> dict[str, Any]:
        """Run the windows as the base, and write what candidates are compared with."""
        self.scored = True
        arrays: dict[str, Any] = {}
        for number, (tokens, scored) in enumerate(windows):
            ids = np.array(tokens, dtype=np.int32)
            base, vocabulary = self._top_k(ids, scored, top_k)
            arrays |= {
                "vocabulary": np.int64(vocabulary),
                f"tokens_{number}": ids,
                f"ids_{number}": base.ids,
                f"logp_{number}": base.logp,
                f"tail_{number}": base.tail,
                f"nll_{number}": base.nll,
                f"best_{number}": base.best,
            }
        with Path(path).open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
        trim()
        return {}

    def score(self, path: str, window: int) -> dict[str, Any]:
        """Sums over one stored window."""
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
        self.generator = logits = None
        trim(window_bytes)
        if not scores.finite.all():
            return {"nll": 0.0, "tokens": len(targets), "kl": 0.0, "agree": 0, "finite": False}
        return {
            "nll": float(scores.nll.sum()),
            "tokens": len(targets),
            "kl": float(scores.kl.sum()),
            "agree": int(scores.agree.sum()),
            "finite": True,
        }

    def reset_peak(self) -> dict[str, Any]:
        """Let VmHWM start anew (proc(5), clear_refs)."""
        trim()
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return {"done": False}
        return {"done": True}

    def stats(self) -> dict[str, Any]:
        """Memory of this process."""
        fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        kilobytes = {name: int(fields[name].split()[0]) for name in ("VmRSS", "VmHWM")}
        return {
            "rss_bytes": kilobytes["VmRSS"] * 1024,
            "peak_rss_bytes": kilobytes["VmHWM"] * 1024,
            "scored": self.scored,
            "gpu_bytes": self.gpu_bytes(),
        }

    def gpu_bytes(self) -> int | None:
        """What the device holds more than before the model was loaded."""
        now = used_bytes() if self.gpu_before is not None else None
        return None if now is None or self.gpu_before is None else now - self.gpu_before

    def _generator(self, max_length: int, min_length: int | None = None) -> Any:
        """A greedy generator; by default it may not end before ``max_length``."""
        params = self.genai.GeneratorParams(self.model)
        least = max_length if min_length is None else min_length
        params.set_search_options(max_length=max_length, min_length=least, do_sample=False)
        return self.genai.Generator(self.model, params)

    def _top_k(self, ids: Any, scored: int, k: int) -> tuple[TopK, int]:
        """What is kept of a window, and the vocabulary's size; its logits are gone before the next window runs."""
        logits, targets = self._logits(ids, scored)
        if not finite(logits):
            raise FloatingPointError("the model gives logits that are not finite: it can't be the base of a study")
        return top_k(logits, targets, k), logits.shape[1]

    def prompt_logits(self, ids: Any) -> Any:
        """[tokens, vocabulary] logits of a prompt on a fresh cache."""
        self.generator = None
        generator = self._generator(len(ids))  # no room for more: a prompt may be as long as the model's context
        generator.append_tokens(ids)
        return np.asarray(generator.get_output("logits"))[0]

    def _logits(self, ids: Any, scored: int) -> tuple[Any, Any]:
        """Float32 logits before, and token ids at, the last ``scored`` positions of a window."""
        logits = self._every_position(ids)
        first = len(ids) - scored
        return logits[first - 1 : -1].astype(np.float32, copy=False), ids[first:]

    def _every_position(self, ids: Any) -> Any:
        """[tokens, vocabulary] logits of a prompt, refused where the graph gives fewer."""
        logits = self.prompt_logits(ids)
        if logits.ndim != 2:
            raise ValueError(f"the graph gives logits of shape {logits.shape} for {len(ids)} positions of one text")
        if len(logits) != len(ids):
            raise ValueError(
                f"the graph gives logits for {len(logits)} of {len(ids)} positions: such a graph can't be "
                "scored; score its unpruned twin"
            )
        return logits


class SessionServer(Server):
    """The commands in a plain ONNX Runtime session, where GenAI can't be: text stays with the parent."""

    def open(self, folder: str, config: dict[str, Any]) -> None:
        """Load the model of a folder."""
        import onnxruntime as ort

        self.model = OnnxSession(ort, Path(folder), config)
        ends = config["model"].get("eos_token_id", [])
        self.ends = set(ends if isinstance(ends, list) else [ends])

    def prefill(self, tokens: list[int], room: int) -> dict[str, Any]:
        """Time a prompt on a fresh cache, to its first token."""
        ids = np.array(tokens, dtype=np.int64)
        return timed(lambda: self.model.start(ids), 1)

    def decode(self, steps: int) -> dict[str, Any]:
        """Time further tokens."""
        return timed(self.model.step, steps)

    def begin(self, tokens: list[int], room: int) -> dict[str, Any]:
        """Start a greedy continuation of a prompt on a fresh cache; :meth:`more` gives its tokens."""
        self.model.start(np.array(tokens, dtype=np.int64))
        self.room = room
        return {"done": True}

    def more(self, steps: int) -> dict[str, Any]:
        """Up to ``steps`` further tokens of what :meth:`begin` started."""
        written: list[int] = []
        while self.room > 0 and len(written) < steps:
            written.append(self.model.token)
            self.room = 0 if self.model.token in self.ends else self.room - 1
            if self.room > 0:
                self.model.step()
        return {"tokens": written, "done": self.room == 0}

    def prompt_logits(self, ids: Any) -> Any:
        """[tokens, vocabulary] logits of a prompt on a fresh cache."""
        return self.model.start(ids)


def finite(logits: Any) -> bool:
    """Whether all logits are finite; a sum shows it without an array of flags."""
    return bool(np.isfinite(logits.sum(axis=1, dtype=np.float64)).all())


def timed(work: Callable[[], object], times: int) -> dict[str, Any]:
    """Milliseconds of each call, and the cores that other programs kept busy meanwhile."""
    busy, own = busy_s(), time.process_time()
    marks = [time.perf_counter_ns()]
    for _ in range(times):
        work()
        marks.append(time.perf_counter_ns())
    foreign_s = (busy_s() - busy) - (time.process_time() - own)
    seconds = (marks[-1] - marks[0]) / 1e9
    ms = [(after - before) / 1e6 for before, after in itertools.pairwise(marks)]
    return {"ms": ms, "foreign_cores": max(0.0, foreign_s / seconds)}


def trim(but: int = 0) -> None:
    """Give the kernel back what is free, but for so many bytes, where the C library can (malloc_trim(3))."""
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if give_back is not None:
        give_back(ctypes.c_size_t(but))


def versions() -> dict[str, str]:
    """Versions of this process, whatever flavour of ONNX Runtime it has."""
    found = {"python": platform.python_version()}
    for package in metadata.distributions():
        name = package.metadata["Name"].lower()
        if name.startswith("onnxruntime"):
            found[name] = package.version
    return found


def _genai() -> Any:
    import onnxruntime_genai as genai

    if hasattr(genai, "disable_telemetry_events"):
        genai.disable_telemetry_events()
    return genai


def watch_parent(parent: int) -> None:
    """End this process when its parent is gone, also while native code runs."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_S)
    os._exit(1)


def serve(requests: BinaryIO, answers: BinaryIO, server: Any) -> None:
    """Answer requests until the parent closes the pipe."""
    for line in requests:
        request = json.loads(line)
        number, command = request.pop("id"), request.pop("do")
        answer = getattr(server, command)(**request)
        answers.write(json.dumps({"id": number, **answer}).encode() + b"\n")
        answers.flush()


def _asked_server(arguments: list[str]) -> Any:
    if GRAPH in arguments:
        from olivine.evaluators.process.graph_server import GraphServer

        return GraphServer()
    return SessionServer(None) if SESSION in arguments else Server(_genai())


def main() -> int:
    """Keep stdout for answers alone, import the libraries, serve."""
    begin()
    threading.Thread(target=watch_parent, args=(os.getppid(),), daemon=True).start()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what native libraries print goes to stderr and can't break the protocol
    try:
        serve(sys.stdin.buffer, answers, _asked_server(sys.argv))
    except ProviderUnavailable as error:
        print(error, file=sys.stderr)
        return EXIT_PROVIDER
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # no destructors: a model that is about to vanish need not be torn down
