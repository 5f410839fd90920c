"""The execution provider that a model folder asks for, and whether it really runs here.

ONNX Runtime only warns when a provider is missing or fails to start, and then runs on the CPU; a number taken
there would be a number of something else. CPU needs no proof; every other provider has to show itself in a
plain session before the model is loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

CPU = "CPUExecutionProvider"

#: genai_config.json's short names that do not become ONNX Runtime's by appending "ExecutionProvider".
_NAMES = {
    "cuda": "CUDAExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "dml": "DmlExecutionProvider",
    "webgpu": "WebGpuExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "nvtensorrtrtx": "NvTensorRTRTXExecutionProvider",
    "vitisai": "VitisAIExecutionProvider",
}


class ProviderUnavailable(RuntimeError):
    """The asked provider would not be the one that runs."""


def asked_provider(config: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """The provider that a parsed genai_config.json names, and its options; no provider named means CPU."""
    options = config["model"]["decoder"].get("session_options", {}).get("provider_options") or []
    for entry in options:
        for name, settings in entry.items():
            if name.lower() in ("cpu", CPU.lower()):
                continue
            full = name if name.endswith("ExecutionProvider") else _NAMES.get(name.lower(), f"{name}ExecutionProvider")
            return full, {str(key): str(value) for key, value in settings.items()}
    return CPU, {}


def prove_provider(folder: Path, config: dict[str, Any]) -> str:
    """The provider that runs the model in ``folder``.

    Raises:
        ProviderUnavailable: when it is not the one that ``config`` asks for.
    """
    provider, options = asked_provider(config)
    if provider == CPU:
        return CPU
    import onnxruntime as ort  # only here: the CPU path does not pay for the import

    available = ort.get_available_providers()
    if provider not in available:
        raise ProviderUnavailable(
            f"genai_config.json asks for {provider}; this ONNX Runtime {ort.__version__} has "
            f"{', '.join(available)}. Install the ONNX Runtime flavour that has it, name that interpreter, "
            "or ask for cpu."
        )
    settings = ort.SessionOptions()
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    graph = folder / str(config["model"]["decoder"]["filename"])
    session = ort.InferenceSession(str(graph), settings, providers=[(provider, options)])
    ran = session.get_providers()
    if ran[0] != provider:
        raise ProviderUnavailable(
            f"genai_config.json asks for {provider}, but a session on it fell back to {', '.join(ran)}: "
            "its libraries or its device are missing. `olivine doctor` shows which providers really work."
        )
    return provider
