"""OpenVINO on an exported folder: its runtime gives the logits of every position, its GenAI pipeline is timed.

    python openvino_pipeline.py '{"path": FOLDER, "threads": 2}'

``precision`` is the type that it computes in; without it, its own choice for this machine.
"""

from __future__ import annotations

import json
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as genai
from worker import Floats, serve

MILLISECOND = 1e-3


class OpenVINO:
    """A model of OpenVINO, loaded the way that the first request needs."""

    def __init__(self, path: str, threads: int, precision: str | None = None) -> None:
        self._path = path
        self._settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        if precision is not None:
            self._settings["INFERENCE_PRECISION_HINT"] = precision

    @cached_property
    def _request(self) -> Any:
        core = ov.Core()
        return core.compile_model(Path(self._path) / "openvino_model.xml", "CPU", self._settings).create_infer_request()

    @cached_property
    def _pipeline(self) -> Any:
        return genai.LLMPipeline(self._path, "CPU", **self._settings)

    def logits(self, tokens: list[int]) -> Floats:
        """[tokens, vocabulary] logits of every position."""
        ids = np.array([tokens], np.int64)
        values = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "position_ids": np.arange(len(tokens))[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        self._request.reset_state()
        known = {name for value in self._request.model_inputs for name in value.names}
        self._request.infer({name: value for name, value in values.items() if name in known})
        return np.array(self._request.get_tensor("logits").data[0], np.float32)

    def generate(self, prompt: list[int], new_tokens: int) -> tuple[float, float]:
        """Seconds from the prompt to the first new token, and from there to the last one."""
        ids = np.array([prompt], np.int64)
        inputs = genai.TokenizedInputs(ov.Tensor(ids), ov.Tensor(np.ones_like(ids)))
        config = genai.GenerationConfig(max_new_tokens=new_tokens, ignore_eos=True, do_sample=False)
        metrics = self._pipeline.generate(inputs, config).perf_metrics
        if metrics.get_num_generated_tokens() != new_tokens:
            raise RuntimeError(f"{metrics.get_num_generated_tokens()} tokens where {new_tokens} were asked for")
        first = metrics.get_ttft().mean * MILLISECOND
        return first, metrics.get_tpot().mean * MILLISECOND * (new_tokens - 1)


if __name__ == "__main__":
    serve(OpenVINO(**json.loads(sys.argv[1])))
