from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from olivine.evaluators.process.servers.provider import (
    CPU,
    CUDA,
    ProviderUnavailable,
    asked_provider,
    fallen_nodes,
    open_session,
    prove_provider,
)


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


def fake_ort(available: list[str], ran: list[str], placed: dict[str, list[str]] | None = None) -> Any:
    """The module onnxruntime, with sessions that run on ``ran`` and place operators as ``placed`` says."""

    class Options:
        def add_session_config_entry(self, key: str, value: str) -> None:
            assert (key, value) == ("session.record_ep_graph_assignment_info", "1")

    def session(*_: object, **__: object) -> Any:
        def assigned() -> list[Any]:
            nodes = {
                provider: [SimpleNamespace(op_type=op, name=f"/layers.{i}/{op}") for i, op in enumerate(ops)]
                for provider, ops in (placed or {}).items()
            }
            return [SimpleNamespace(ep_name=p, get_nodes=lambda n=n: n) for p, n in nodes.items()]

        return SimpleNamespace(get_providers=lambda: ran, get_provider_graph_assignment_info=assigned)

    return SimpleNamespace(
        __version__="1",
        get_available_providers=lambda: available,
        preload_dlls=lambda: None,
        SessionOptions=Options,
        GraphOptimizationLevel=SimpleNamespace(ORT_DISABLE_ALL=0),
        InferenceSession=session,
    )


BOTH = [CUDA, CPU]


def test_a_provider_that_is_not_installed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", fake_ort([CPU], [CPU]))
    with pytest.raises(ProviderUnavailable, match="this ONNX Runtime 1 has CPUExecutionProvider"):
        prove_provider(Path(), config({"cuda": {}}))


def test_a_fallback_to_the_cpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", fake_ort(BOTH, [CPU]))
    with pytest.raises(ProviderUnavailable, match="fell back to CPUExecutionProvider"):
        prove_provider(Path(), config({"cuda": {}}))


def test_a_provider_that_shows_itself_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    placed = {CUDA: ["MatMul", "GroupQueryAttention"], CPU: ["Shape", "Gather", "Cast"]}
    monkeypatch.setitem(sys.modules, "onnxruntime", fake_ort(BOTH, BOTH, placed))
    assert prove_provider(Path(), config({"cuda": {}})) == CUDA


def test_nodes_that_fell_back_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    placed = {CUDA: ["MatMul"], CPU: ["MatMulIntegerToFloat", "Shape", *["DynamicQuantizeLinear"] * 5]}
    monkeypatch.setitem(sys.modules, "onnxruntime", fake_ort(BOTH, BOTH, placed))
    with pytest.raises(ProviderUnavailable) as error:
        prove_provider(Path(), config({"cuda": {}}))
    assert "no kernel for 6 of the model's nodes" in str(error.value)
    assert "MatMulIntegerToFloat (/layers.0/MatMulIntegerToFloat), DynamicQuantizeLinear (/layers.2/" in str(
        error.value
    )
    assert "and 2 more" in str(error.value)


@pytest.mark.parametrize(("fallen", "fits"), [("GroupQueryAttention", True), ("MatMulNBits", False)])
def test_openvino_may_leave_attention_to_the_processor_they_share(
    fallen: str, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino = "OpenVINOExecutionProvider"
    monkeypatch.setitem(sys.modules, "onnxruntime", fake_ort([openvino, CPU], [openvino, CPU], {CPU: [fallen]}))
    if fits:
        assert prove_provider(Path(), config({"OpenVINO": {}})) == openvino
    else:
        with pytest.raises(ProviderUnavailable, match="MatMulNBits"):
            prove_provider(Path(), config({"OpenVINO": {}}))


def test_placement_is_read_from_a_real_session(tiny_onnx: Path) -> None:
    import onnxruntime as ort

    session = open_session(ort, str(tiny_onnx / "model.onnx"), CPU, {})
    assert fallen_nodes(session, CPU) == []
    elsewhere = fallen_nodes(session, CUDA)
    assert {node.split()[0] for node in elsewhere} >= {"MatMul", "GroupQueryAttention", "SimplifiedLayerNormalization"}
    assert not {node.split()[0] for node in elsewhere} & {"Shape", "Cast", "Sub", "ReduceSum"}
