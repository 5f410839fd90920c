"""The state that is read from a provider's probe, under this interpreter and under made-up ones."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from olivine.evaluators.providers.state import ort_name, provider_state
from olivine.passes.errors import UsageError
from olivine.passes.providers import PROVIDERS

CUDA = "CUDAExecutionProvider"
ANSWER: dict[str, Any] = {
    "runtime": "1.31.1",
    "listed": [CUDA],
    "started": True,
    "error": "",
    "devices": ["NVIDIA H100"],
    "kernels": {"MatMul": "ok", "GroupQueryAttention": "ok"},
    "genai": True,
}


def interpreter(folder: Path, stdout: str, stderr: str = "", code: int = 0) -> Path:
    """An executable that answers like an interpreter with another ONNX Runtime."""
    (folder / "stdout").write_text(stdout)
    (folder / "stderr").write_text(stderr)
    path = folder / "python"
    path.write_text(f"#!/bin/sh\ncat > /dev/null\ncat {folder}/stdout\ncat {folder}/stderr >&2\nexit {code}\n")
    path.chmod(0o755)
    return path


def test_names_are_those_of_onnx_runtime() -> None:
    names = {provider: ort_name(provider) for provider in PROVIDERS}
    assert names["cpu"] == "CPUExecutionProvider"
    assert names["cuda"] == CUDA
    assert names["trt-rtx"] == "NvTensorRTRTXExecutionProvider"
    assert names["openvino"] == "OpenVINOExecutionProvider"


def test_the_cpu_of_this_interpreter_works_with_every_kernel() -> None:
    provider = provider_state("cpu", sys.executable)
    assert (provider.state, provider.detail, provider.lacking) == ("works", "", ())
    assert provider.runtime


def test_a_provider_that_is_not_installed_says_what_to_install() -> None:
    provider = provider_state("dml", sys.executable)
    assert provider.state == "missing"
    assert "onnxruntime-directml" in provider.detail


def test_a_provider_that_works_shows_devices_and_what_falls_back(tmp_path: Path) -> None:
    kernels = {"MatMul": "ok", "MatMulNBits int4": "falls back"}
    provider = provider_state("cuda", interpreter(tmp_path, json.dumps(ANSWER | {"kernels": kernels})))
    assert (provider.state, provider.devices) == ("works", ("NVIDIA H100",))
    assert provider.lacking == ("MatMulNBits int4 falls back",)


@pytest.mark.parametrize(
    ("change", "stderr", "reason"),
    [
        ({"started": False, "error": "no device"}, "", "no device"),
        ({"started": False}, "[E] x with error: libcublasLt.so.13: cannot open\n", "libcublasLt.so.13: cannot open"),
        ({"kernels": {"MatMul": "wrong"}}, "", "MatMul wrong"),
    ],
)
def test_a_provider_on_which_nothing_runs_is_broken(
    change: dict[str, Any], stderr: str, reason: str, tmp_path: Path
) -> None:
    provider = provider_state("cuda", interpreter(tmp_path, json.dumps(ANSWER | change), stderr))
    assert provider.state == "broken"
    assert reason in provider.detail
    assert "onnxruntime-gpu" in provider.detail


def test_genai_that_was_built_without_the_provider_is_told(tmp_path: Path) -> None:
    provider = provider_state("cuda", interpreter(tmp_path, json.dumps(ANSWER | {"genai": False})))
    assert provider.state == "works"
    assert "was built without it" in provider.detail


def test_a_crash_of_the_providers_library_is_its_own(tmp_path: Path) -> None:
    provider = provider_state("cuda", interpreter(tmp_path, "", "terminate called", code=134))
    assert provider.state == "broken"
    assert "exit code 134: terminate called" in provider.detail


def test_an_environment_without_onnx_runtime_misses_it(tmp_path: Path) -> None:
    stderr = "ModuleNotFoundError: No module named 'onnxruntime'"
    assert provider_state("cuda", interpreter(tmp_path, "", stderr, code=1)).state == "missing"


def test_a_provider_that_hangs_is_broken(tmp_path: Path) -> None:
    path = interpreter(tmp_path, "")
    path.write_text("#!/bin/sh\nexec sleep 5\n")
    assert "did not answer within" in provider_state("cuda", path, timeout_s=0.2).detail


@pytest.mark.parametrize("python", ["/no/such/python", "/bin/true"])
def test_what_is_no_interpreter_is_a_mistake(python: str) -> None:
    with pytest.raises(UsageError, match="interpreter"):
        provider_state("cuda", python)
