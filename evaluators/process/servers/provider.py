"""The execution provider that a model folder asks for, and the proof that it runs here.

ONNX Runtime only warns when a provider is missing, fails to start or lacks a kernel, and then runs on the CPU; a
number taken there would be a number of something else. CPU needs no proof; every other provider has to show itself
in a plain session before the model is loaded, with all that computes on it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

#: genai_config.json's short names that do not become ONNX Runtime's by appending "ExecutionProvider".
_NAMES = {
    "cuda": CUDA,
    "rocm": "ROCMExecutionProvider",
    "dml": "DmlExecutionProvider",
    "webgpu": "WebGpuExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "nvtensorrtrtx": "NvTensorRTRTXExecutionProvider",
    "vitisai": "VitisAIExecutionProvider",
}

#: Operators that providers leave to the CPU on purpose: a decoder graph has them for arithmetic on lengths and
#: shapes, a few integers that the host needs anyway. Everything else on the CPU is a fallback.
_SHAPE_ARITHMETIC = frozenset(
    {
        *("Add", "Div", "Equal", "Mul", "Range", "ReduceMax", "ReduceSum", "Sub"),
        *("Cast", "Concat", "Constant", "ConstantOfShape", "Gather", "Identity"),
        *("Reshape", "Shape", "Slice", "Squeeze", "Unsqueeze"),
    }
)
#: Operators that a provider may leave to the CPU, since it computes on the same processor: OpenVINO 1.24 has no
#: GroupQueryAttention and no quantized embedding, but the linear layers, for which it is chosen, are its own.
_MAY_LEAVE = {"OpenVINOExecutionProvider": frozenset({"GroupQueryAttention", "GatherBlockQuantized"})}
#: Exit code of a model process whose provider would not be the one that runs.
EXIT_PROVIDER = 3
#: Fallen nodes that a message names; the others are counted.
_NAMED = 4


class ProviderUnavailable(RuntimeError):
    """The requested provider would not be the one that runs."""


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


def folder_provider(folder: Path) -> str:
    """The provider that a model folder asks for; a graph that is no decoder has no config and runs on the CPU."""
    config = folder / "genai_config.json"
    return asked_provider(json.loads(config.read_text(encoding="utf-8")))[0] if config.is_file() else CPU


def prove_provider(folder: Path, config: dict[str, Any]) -> str:
    """The provider that runs the model in ``folder``.

    Raises:
        ProviderUnavailable: when it is not the one that ``config`` asks for, or leaves nodes that compute to the CPU.
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
    graph = folder / str(config["model"]["decoder"]["filename"])
    session = open_session(ort, str(graph), provider, options)
    ran = session.get_providers()
    if ran[0] != provider:
        raise ProviderUnavailable(
            f"genai_config.json asks for {provider}, but a session on it fell back to {', '.join(ran)}: "
            "its libraries or its device are missing. `olivine doctor` shows which providers really work."
        )
    if fallen := fallen_nodes(session, provider, _MAY_LEAVE.get(provider, frozenset())):
        more = f" and {len(fallen) - _NAMED} more" if len(fallen) > _NAMED else ""
        raise ProviderUnavailable(
            f"{provider} has no kernel for {len(fallen)} of the model's nodes, which would run on the CPU: "
            f"{', '.join(fallen[:_NAMED])}{more}. Choose a precision or a form that it has kernels for."
        )
    return provider


def open_session(ort: Any, graph: str | bytes, provider: str, options: dict[str, str]) -> Any:
    """A plain session that remembers which provider each node was given to; unoptimized, so nodes keep their names.

    Args:
        ort: the module onnxruntime.
        graph: path of a model, or a serialized one.
        provider: ONNX Runtime's name of it.
        options: of the provider.
    """
    if provider == CUDA:
        ort.preload_dlls()  # CUDA's libraries may be Python packages, where the loader does not look
    settings = ort.SessionOptions()
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return ort.InferenceSession(graph, settings, providers=[(provider, options)])


def fallen_nodes(session: Any, provider: str, allowed: frozenset[str] = frozenset()) -> list[str]:
    """Nodes that compute and were not given to ``provider``, as ``operator (name)``; ``allowed`` operators aside."""
    return [
        f"{node.op_type} ({node.name})"
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != provider
        for node in part.get_nodes()
        if node.op_type not in _SHAPE_ARITHMETIC | allowed
    ]
