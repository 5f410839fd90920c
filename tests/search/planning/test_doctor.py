"""``olivine doctor``: what it finds, and that it says so where something is missing. No network."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from olivine.evaluators.providers.state import ProviderState
from olivine.passes.providers import PROVIDERS
from olivine.search.planning.doctor import examine, folder_bytes, hub_state, machine_tables, provider_table
from olivine.search.planning.machine_speed import free_disk_bytes


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_the_cpu_works() -> None:
    console = Console(file=io.StringIO(), width=120)
    examined = examine()
    assert examined.cpu_works
    console.print(machine_tables(examined))
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    for word in ("memory", "disk", "cache", "hub", "onnxruntime-genai", "cpu", "works", *PROVIDERS):
        assert word in said


def test_a_broken_cpu_is_told() -> None:
    console = Console(file=io.StringIO(), width=120)
    examined = examine(None, lambda provider, _: ProviderState(provider, "CPU", "broken", "it is on fire"))
    assert not examined.cpu_works
    console.print(machine_tables(examined))
    assert isinstance(console.file, io.StringIO)
    assert "it is on fire" in console.file.getvalue()


def test_devices_and_lacking_kernels_are_shown() -> None:
    state = ProviderState("cuda", "CUDA", "works", "", "1.31", ("H100",), {"MatMul": "ok", "Attention": "falls back"})
    console = Console(file=io.StringIO(), width=160)
    console.print(provider_table([state]))
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert "ONNX Runtime 1.31" in said
    assert "works on H100; kernels: Attention falls back" in said


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
