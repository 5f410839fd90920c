"""Proof of one execution provider, in a process of its own: its libraries may print, hang or crash.

Run by :mod:`olivine.evaluators.providers.state`, maybe under an interpreter that has no olivine: imports only the
standard library, numpy, onnxruntime and onnxruntime_genai. Reads a request from stdin, writes a line of JSON to stdout:

    {"provider": ONNX Runtime's name, "options": {...}, "genai": GenAI's word, "kernels": {name: graph in base64}}
    {"runtime": version, "listed": [...], "started": bool, "error": text, "devices": [...], "kernels": {name: verdict}}

A kernel's verdict is ``ok``, ``falls back``, ``wrong`` (another result than on the CPU) or ``fails: ...``.
"""

from __future__ import annotations

import base64
import importlib.util
import subprocess
from collections.abc import Sequence
from typing import Any

import numpy as np

from olivine.evaluators.process.lifecycle import answer_once
from olivine.evaluators.process.servers.provider import CPU, CUDA, fallen_nodes, open_session

#: Largest difference from the CPU's result that rounding to half precision explains, relative to the largest value.
TOLERANCE = 2e-2
NVIDIA_SMI = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")


def probe(request: dict[str, Any]) -> dict[str, Any]:
    """Start the provider and run every kernel on it."""
    import onnxruntime as ort

    provider, options = request["provider"], request["options"]
    answer = {
        "runtime": ort.__version__,
        "listed": ort.get_available_providers(),
        "started": False,
        "error": "",
        "devices": devices(ort, provider),
        "kernels": {},
        "genai": genai_has(request["genai"]),
    }
    if provider not in answer["listed"]:
        return answer
    graphs = {name: base64.b64decode(graph) for name, graph in request["kernels"].items()}
    try:
        ran = open_session(ort, next(iter(graphs.values())), provider, options).get_providers()
    except Exception as error:  # whatever it raises is the answer
        return answer | {"error": str(error)}
    if ran[0] != provider:
        return answer | {"error": f"{ran[0]} ran instead"}
    verdicts = {name: verdict(ort, graph, provider, options) for name, graph in graphs.items()}
    return answer | {"started": True, "kernels": verdicts}


def verdict(ort: Any, graph: bytes, provider: str, options: dict[str, str]) -> str:
    """Verdict on one kernel on the provider."""
    try:
        session = open_session(ort, graph, provider, options)
        if fallen_nodes(session, provider):
            return "falls back"
        feed = inputs(session)
        result = session.run(None, feed)[0].astype(np.float32)
        expected = open_session(ort, graph, CPU, {}).run(None, feed)[0].astype(np.float32)
    except Exception as error:  # whatever it raises is the answer
        return f"fails: {error}"
    scale = float(np.abs(expected).max())
    return "ok" if float(np.abs(result - expected).max()) <= TOLERANCE * scale else "wrong"


def inputs(session: Any) -> dict[str, Any]:
    """Random values of the shapes that a graph names; integers count up from 0."""
    rng = np.random.default_rng(0)
    feed = {}
    for graph_input in session.get_inputs():
        name, shape = graph_input.name, graph_input.shape
        if graph_input.type == "tensor(int64)":
            feed[name] = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
        else:
            dtype = np.float16 if graph_input.type == "tensor(float16)" else np.float32
            feed[name] = rng.standard_normal(shape).astype(dtype)
    return feed


def devices(ort: Any, provider: str, driver_query: Sequence[str] = NVIDIA_SMI) -> list[str]:
    """Names of the devices that the provider may use, by ONNX Runtime and by NVIDIA's driver."""
    names = [
        " ".join(filter(None, (str(listed.device.vendor), str(listed.device.type).rpartition(".")[2])))
        for listed in ort.get_ep_devices()
        if listed.ep_name == provider
    ]
    if provider == CUDA:
        try:
            output = subprocess.run(driver_query, capture_output=True, text=True, check=True, timeout=20).stdout
        except (OSError, subprocess.SubprocessError):
            return names
        names = [line.strip() for line in output.splitlines() if line.strip()]
    return names


def genai_has(word: str) -> bool | None:
    """Tell whether ONNX Runtime GenAI was built with the provider; None where it is not installed or does not say."""
    if importlib.util.find_spec("onnxruntime_genai") is None:
        return None
    try:
        import onnxruntime_genai as genai
    except ImportError:
        return False
    is_available = getattr(genai, f"is_{word}_available", None)
    return None if is_available is None else bool(is_available())


if __name__ == "__main__":
    answer_once(probe)
