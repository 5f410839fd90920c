"""llama.cpp on a GGUF file, by the bindings of llama-cpp-python's source over a native build of its library.

LLAMA_CPP_LIB_PATH=FOLDER python llama.py '{"path": FILE, "threads": 2, "bindings": FOLDER}'
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from types import ModuleType
from typing import Any

import numpy as np
from worker import PAUSE_S, Floats, serve

CONTEXT = 1024


def bindings(folder: str) -> Any:
    """The low-level module alone: the package around it wants more than this needs."""
    package = ModuleType("llama_cpp")
    package.__path__ = [folder]
    sys.modules["llama_cpp"] = package
    return importlib.import_module("llama_cpp.llama_cpp")


class Llama:
    """A model of llama.cpp, with the library's own settings but for threads and the length of its context."""

    def __init__(self, path: str, threads: int, bindings_folder: str) -> None:
        self._api = api = bindings(bindings_folder)
        api.llama_backend_init()
        self._model = api.llama_model_load_from_file(path.encode(), api.llama_model_default_params())
        settings = api.llama_context_default_params()
        settings.n_ctx = CONTEXT
        settings.n_threads = settings.n_threads_batch = threads
        self._context = api.llama_init_from_model(self._model, settings)
        if not self._context:
            raise RuntimeError(f"llama.cpp does not open {path}")
        self._width = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self._model))

    def logits(self, tokens: list[int]) -> Floats:
        """[tokens, vocabulary] logits of every position."""
        api = self._api
        batch = api.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for place, token in enumerate(tokens):
            batch.token[place], batch.pos[place] = token, place
            batch.n_seq_id[place], batch.seq_id[place][0], batch.logits[place] = 1, 0, True
        self._forget()
        self._decode(batch)
        rows = np.ctypeslib.as_array(api.llama_get_logits(self._context), (len(tokens), self._width)).copy()
        api.llama_batch_free(batch)
        return rows

    def generate(self, prompt: list[int], new_tokens: int) -> tuple[float, float]:
        """Seconds from the prompt to the first new token, and from there to the last one."""
        self._forget()
        start = time.perf_counter()
        token = self._next(prompt)
        prefill_s = time.perf_counter() - start
        time.sleep(PAUSE_S)
        start = time.perf_counter()
        for _ in range(new_tokens - 1):
            token = self._next([token])
        return prefill_s, time.perf_counter() - start

    def _next(self, tokens: list[int]) -> int:
        """The likeliest token after these."""
        ids = (self._api.llama_token * len(tokens))(*tokens)
        self._decode(self._api.llama_batch_get_one(ids, len(tokens)))
        return int(np.ctypeslib.as_array(self._api.llama_get_logits_ith(self._context, -1), (self._width,)).argmax())

    def _decode(self, batch: Any) -> None:
        if self._api.llama_decode(self._context, batch) != 0:
            raise RuntimeError("llama_decode failed")

    def _forget(self) -> None:
        self._api.llama_memory_clear(self._api.llama_get_memory(self._context), True)


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    serve(Llama(settings["path"], settings["threads"], settings["bindings"]))
