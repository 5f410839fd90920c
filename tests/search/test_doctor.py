"""``olivine doctor``: what it finds, and that it says so where something is missing. No network."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from olivine.passes.export import FLOAT_PRECISIONS
from olivine.search import doctor as examined
from olivine.search.doctor import (
    INSTALL,
    ProviderState,
    doctor,
    folder_bytes,
    free_disk_bytes,
    hub_state,
    ort_name,
    probe,
)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_the_cpu_works_and_the_exit_code_says_so() -> None:
    console = Console(file=io.StringIO(), width=120)
    assert doctor(console) == 0
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    for word in ("memory", "disk", "cache", "hub", "onnxruntime-genai", "cpu", "works", *FLOAT_PRECISIONS):
        assert word in said


def test_a_broken_cpu_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examined, "probe", lambda p: ProviderState(p, ort_name(p), "broken", "it is on fire"))
    console = Console(file=io.StringIO(), width=120)
    assert doctor(console) == 1
    assert isinstance(console.file, io.StringIO)
    assert "it is on fire" in console.file.getvalue()


def test_every_known_provider_has_a_name_and_a_way_to_get_it() -> None:
    assert set(INSTALL) == set(FLOAT_PRECISIONS)
    assert ort_name("cpu") == "CPUExecutionProvider"
    assert ort_name("cuda") == "CUDAExecutionProvider"
    assert ort_name("trt-rtx") == "NvTensorRTRTXExecutionProvider"


def test_a_provider_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    found = probe("cuda")
    assert found.state == "missing"
    assert "onnxruntime-gpu" in found.detail


class FakeSession:
    """A session as ONNX Runtime opens it."""

    ran = "CPUExecutionProvider"
    product = ((7.0, 10.0), (15.0, 22.0))

    def __init__(self, graph: bytes, options: Any, providers: list[Any], enable_fallback: int) -> None:
        assert options.get_session_config_entry("session.disable_cpu_ep_fallback") == "1"
        assert enable_fallback == 0

    def run(self, names: None, feed: dict[str, Any]) -> list[Any]:
        import numpy as np

        return [np.array(self.product)]

    def get_providers(self) -> list[str]:
        return [self.ran]


@pytest.fixture
def cuda_is_listed(monkeypatch: pytest.MonkeyPatch) -> type[FakeSession]:
    class Session(FakeSession):
        pass

    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr("onnxruntime.InferenceSession", Session)
    return Session


def test_a_provider_that_fell_back_to_the_cpu_is_broken(cuda_is_listed: type[FakeSession]) -> None:
    found = probe("cuda")
    assert (found.state, "CPUExecutionProvider ran instead" in found.detail) == ("broken", True)


def test_a_provider_that_computes_nonsense_is_broken(cuda_is_listed: type[FakeSession]) -> None:
    cuda_is_listed.ran = "CUDAExecutionProvider"
    assert probe("cuda").state == "works"
    cuda_is_listed.product = ((0.0, 0.0), (0.0, 0.0))
    assert "wrong product" in probe("cuda").detail


def test_a_provider_that_works_says_when_genai_lacks_it(cuda_is_listed: type[FakeSession]) -> None:
    cuda_is_listed.ran = "CUDAExecutionProvider"
    assert "was built without it" in probe("cuda").detail


def test_a_provider_that_does_not_start_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no device")

    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr("onnxruntime.InferenceSession", refuse)
    assert probe("cuda").detail.startswith("no device")


def test_a_hub_that_is_off_is_told_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Offline:
        def head(self, *_: object, **__: object) -> None:
            raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.get_session", Offline)
    assert "does not answer: no route to host" in hub_state()


def test_hard_links_count_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "weights").write_bytes(bytes(1000))
    os.link(tmp_path / "a" / "weights", tmp_path / "same")
    (tmp_path / "other").write_bytes(bytes(10))
    assert folder_bytes(tmp_path) == 1010
    assert folder_bytes(tmp_path / "nowhere") == 0


def test_the_disk_of_a_folder_that_is_not_made_yet_is_known(tmp_path: Path) -> None:
    assert free_disk_bytes(tmp_path / "not" / "yet") > 0
