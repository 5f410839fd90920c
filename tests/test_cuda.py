"""Every check that needs a CUDA GPU: ``make test-cuda`` runs them and prints their figures.

They run in this interpreter if its ONNX Runtime has CUDA, or else in ``envs/cuda`` (``olivine provider add cuda``).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_study import tiny_yaml, write_text

from olivine.evaluators.latency.decoder import PairedDecoderLatency
from olivine.evaluators.memory import Memory
from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.process.gpu import gpu_names
from olivine.evaluators.providers.interpreters import process_options
from olivine.evaluators.providers.state import provider_state
from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.pipeline import build
from olivine.passes.sources.source import resolve
from olivine.passes.store.cache import Cache
from olivine.search.cli.main import main
from olivine.search.study_dir import StudyDir

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not gpu_names(), reason="no NVIDIA GPU here"),
]
#: What runs on CUDA, by the axes that make it: float graphs, integer weights, CUDA's own options.
FORMS: dict[str, dict[str, Scalar]] = {
    "fp16": {"precision": "fp16"},
    "bf16": {"precision": "bf16"},
    "int8": {"precision": "int8", "block_size": 32},
    "int4": {"precision": "int4", "block_size": 32},
    "int4, fpa_intb": {"precision": "int4", "block_size": 32, "symmetric": True, "weight_kernels": "fpa_intb"},
    "int4, graph capture": {"precision": "int4", "block_size": 32, "graph_capture": True},
    "fp16, graph capture": {"precision": "fp16", "graph_capture": True},
}
PROMPT = list(range(5, 37))

Built = Callable[[str], Path]


@pytest.fixture(scope="module")
def figures() -> Any:
    """Lines for results/cuda.md, printed at the end."""
    lines: list[str] = []
    yield lines
    print("\n" + "\n".join(["", *gpu_names(), *lines]))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Builds one of ``FORMS`` of the model in $OLIVINE_CUDA_MODEL, by default the demo's."""
    source = resolve(os.environ.get("OLIVINE_CUDA_MODEL", "demo:smollm2-135m-instruct"))
    cache = Cache(tmp_path_factory.mktemp("cuda-cache"))

    def make(form: str) -> Path:
        return build(source, LANGUAGE.compose({"provider": "cuda", **FORMS[form]}), cache).artifact.path

    return make


def process(folder: Path) -> ModelProcess:
    return ModelProcess.open(folder, **process_options("cuda"))


def test_the_provider_works_with_every_kernel(figures: list[str]) -> None:
    options = process_options("cuda")
    state = provider_state("cuda", options["python"])
    figures.append(f"ONNX Runtime {state.runtime}: {state.state} {state.detail}; kernels {dict(state.kernels or {})}")
    assert state.state == "works", state.detail


@pytest.mark.parametrize("form", FORMS)
def test_each_form_runs_on_the_gpu_near_the_float_model(
    form: str, built: Built, figures: list[str], tmp_path: Path
) -> None:
    windows = [(list(range(3, 131)), 100)]
    with process(built("fp16")) as base, process(built(form)) as candidate:
        assert candidate.loaded is not None
        assert candidate.loaded.provider == "CUDAExecutionProvider"
        base.reference(windows, tmp_path / "ref.npz", 512)
        score = candidate.score(tmp_path / "ref.npz", 0)
    figures.append(
        f"{form}: KL to fp16 {score.kl / score.tokens:.4f} nats a token, top-1 {score.agree / score.tokens:.2f}"
    )
    assert score.finite
    assert score.kl / score.tokens < (0.05 if form in ("fp16", "bf16", "fp16, graph capture") else 2.0)


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_timed_beside_fp16_and_its_gpu_memory_is_read(form: str, built: Built, figures: list[str]) -> None:
    with process(built("fp16")) as base, process(built(form)) as candidate:
        memory = {m.metric: m for m in Memory(128).evaluate(candidate, base)}
        latency = {m.metric: m for m in PairedDecoderLatency(128, 64, max_seconds=10).evaluate(candidate, base)}
    decode, prefill = latency["tpot_speedup"], latency["ttft_speedup"]
    figures.append(
        f"{form}: decode {decode.value:.2f}x [{decode.low:.2f}, {decode.high:.2f}], prefill {prefill.value:.2f}x "
        f"[{prefill.low:.2f}, {prefill.high:.2f}], GPU memory {memory['gpu_memory_bytes'].value / 1e6:.0f} MB"
    )
    assert memory["gpu_memory_bytes"].value > 0
    assert decode.low > 0


def test_decode_is_timed_with_the_device_synchronised(built: Built) -> None:
    """Sixteen times the tokens take several times as long: calls that only queue work would take no time."""
    with process(built("fp16")) as one:
        one.prefill(PROMPT, 300)
        one.decode(8)
        few, many = sum(one.decode(8).ms), sum(one.decode(128).ms)
    assert many > 5 * few


def test_a_whole_study_runs_on_cuda(tmp_path: Path, tiny_llama: Path) -> None:
    config = tmp_path / "cuda.yaml"
    space = {"provider": "cuda", "precision": ["fp16", "int4"], "block_size": 32}
    raw = tiny_yaml(tiny_llama, write_text(tmp_path / "text.txt"), space=space, stop={"trials": 2})
    config.write_text(yaml.safe_dump(raw))
    assert main(["run", str(config), "--out", str(tmp_path / "study")]) == 0
    records = StudyDir.open(tmp_path / "study").trials()
    assert {record.provider for record in records} == {"CUDAExecutionProvider"}
    assert all("gpu_memory_bytes" in record.metrics for record in records if record.state == "complete")
