from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from olivine.evaluators.session import CPU, ProviderUnavailable, asked_provider, prove_provider


def config(*providers: dict[str, Any]) -> dict[str, Any]:
    options = {"provider_options": list(providers)}
    return {"model": {"decoder": {"filename": "model.onnx", "session_options": options}}}


@pytest.mark.parametrize(
    ("providers", "expected"),
    [
        ((), (CPU, {})),
        (({"cuda": {"device_id": 1}},), ("CUDAExecutionProvider", {"device_id": "1"})),
        (({"OpenVINO": {"device_type": "CPU"}},), ("OpenVINOExecutionProvider", {"device_type": "CPU"})),
        (({"CPUExecutionProvider": {}},), (CPU, {})),
        (({"Shiny": {}},), ("ShinyExecutionProvider", {})),
    ],
)
def test_the_asked_provider_is_read_from_the_config(providers: Any, expected: Any) -> None:
    assert asked_provider(config(*providers)) == expected


def fake_ort(available: list[str], ran: list[str]) -> Any:
    return SimpleNamespace(
        __version__="1",
        get_available_providers=lambda: available,
        SessionOptions=SimpleNamespace,
        GraphOptimizationLevel=SimpleNamespace(ORT_DISABLE_ALL=0),
        InferenceSession=lambda *args, **options: SimpleNamespace(get_providers=lambda: ran),
    )


def test_a_fallback_to_the_cpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", fake_ort(["CUDAExecutionProvider", CPU], [CPU]))
    with pytest.raises(ProviderUnavailable, match="fell back to CPUExecutionProvider"):
        prove_provider(Path(), config({"cuda": {}}))


def test_a_provider_that_shows_itself_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    both = ["CUDAExecutionProvider", CPU]
    monkeypatch.setitem(sys.modules, "onnxruntime", fake_ort(both, both))
    assert prove_provider(Path(), config({"cuda": {}})) == "CUDAExecutionProvider"
