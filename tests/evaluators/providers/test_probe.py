from __future__ import annotations

import base64
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from olivine.evaluators.process.servers.provider import CPU, CUDA
from olivine.evaluators.providers.probe import TOLERANCE, devices, genai_has, inputs, probe, verdict
from olivine.evaluators.providers.probe_graphs import probe_graphs


def test_the_cpu_runs_every_kernel() -> None:
    kernels = {name: base64.b64encode(graph).decode() for name, graph in probe_graphs("fp32").items()}
    answer = probe({"provider": CPU, "options": {}, "genai": "cpu", "kernels": kernels})
    assert answer["started"]
    assert set(answer["kernels"].values()) == {"ok"}
    assert set(answer["kernels"]) >= {"MatMul", "MatMulNBits int4", "GatherBlockQuantized int8", "GroupQueryAttention"}


def test_a_provider_that_is_not_listed_is_not_started() -> None:
    answer = probe({"provider": "ShinyExecutionProvider", "options": {}, "genai": "shiny", "kernels": {}})
    assert (answer["started"], answer["kernels"], answer["genai"]) == (False, {}, None)


@pytest.mark.parametrize("kernel", probe_graphs("fp16"))
def test_half_precision_graphs_are_right_within_rounding(kernel: str) -> None:
    half, whole = (ort.InferenceSession(probe_graphs(p)[kernel], providers=[CPU]) for p in ("fp16", "fp32"))
    feed = inputs(half)
    wide = {name: x.astype(np.float32) if x.dtype == np.float16 else x for name, x in feed.items()}
    result, expected = half.run(None, feed)[0].astype(np.float32), whole.run(None, wide)[0]
    assert np.abs(result - expected).max() <= TOLERANCE * np.abs(expected).max()


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_kernel_that_another_provider_would_run_falls_back() -> None:
    assert verdict(ort, probe_graphs("fp32")["MatMul"], "ShinyExecutionProvider", {}) == "falls back"


def test_a_graph_that_does_not_load_fails_with_the_reason() -> None:
    assert verdict(ort, b"no graph", CPU, {}).startswith("fails: ")


class LyingRuntime:
    """ONNX Runtime, but the first session that it makes computes zeros."""

    def __init__(self) -> None:
        self.sessions = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(ort, name)

    def InferenceSession(self, *arguments: Any, **options: Any) -> Any:
        session = ort.InferenceSession(*arguments, **options)
        self.sessions += 1
        if self.sessions > 1:
            return session
        return SimpleNamespace(
            get_provider_graph_assignment_info=session.get_provider_graph_assignment_info,
            get_inputs=session.get_inputs,
            run=lambda names, feed: [np.zeros_like(output) for output in session.run(names, feed)],
        )


def test_a_kernel_that_computes_nonsense_is_wrong() -> None:
    assert verdict(LyingRuntime(), probe_graphs("fp32")["MatMul"], CPU, {}) == "wrong"


def test_a_machine_without_nvidias_tool_has_no_cuda_device() -> None:
    assert devices(ort, CUDA, ("no-such-tool",)) == []


def test_nvidias_tool_names_the_devices() -> None:
    assert devices(ort, CUDA, ("echo", "NVIDIA H100, 81559 MiB, 580.1")) == ["NVIDIA H100, 81559 MiB, 580.1"]


def test_genai_says_what_it_was_built_with() -> None:
    assert genai_has("cuda") is False
    assert genai_has("cpu") is None
