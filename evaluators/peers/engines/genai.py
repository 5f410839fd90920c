"""ONNX Runtime GenAI on a folder: olivine's exports, and those of its own model builder.

python genai.py '{"path": FOLDER, "threads": 2}'
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import onnxruntime_genai as og
from worker import PAUSE_S, Floats, serve


class GenAI:
    """A model of ONNX Runtime GenAI."""

    def __init__(self, path: str, threads: int) -> None:
        config = og.Config(path)
        session = {"session_options": {"intra_op_num_threads": threads}}
        config.overlay(json.dumps({"model": {"decoder": session}}))
        self._model = og.Model(config)

    def logits(self, tokens: list[int]) -> Floats:
        """[tokens, vocabulary] logits of every position."""
        generator = self._generator(len(tokens) + 1)
        generator.append_tokens(np.array([tokens], np.int32))
        return np.asarray(generator.get_output("logits"), np.float32)[0]

    def generate(self, prompt: list[int], new_tokens: int) -> tuple[float, float]:
        """Seconds from the prompt to the first new token, and from there to the last one."""
        length = len(prompt) + new_tokens
        generator = self._generator(length, min_length=length)
        ids = np.array([prompt], np.int32)
        start = time.perf_counter()
        generator.append_tokens(ids)
        generator.generate_next_token()
        prefill_s = time.perf_counter() - start
        time.sleep(PAUSE_S)
        start = time.perf_counter()
        for _ in range(new_tokens - 1):
            generator.generate_next_token()
        return prefill_s, time.perf_counter() - start

    def _generator(self, length: int, **more: Any) -> Any:
        params = og.GeneratorParams(self._model)
        params.set_search_options(max_length=length, do_sample=False, **more)
        return og.Generator(self._model, params)


if __name__ == "__main__":
    serve(GenAI(**json.loads(sys.argv[1])))
