"""State of an execution provider here: missing, broken, or working with these kernels on these devices."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from olivine.evaluators.process.bootstrap import child_command, run_child
from olivine.evaluators.process.servers.provider import CPU, asked_provider
from olivine.evaluators.providers.probe_graphs import probe_graphs
from olivine.passes.errors import UsageError
from olivine.passes.providers import PROVIDERS

State = Literal["works", "broken", "missing"]
#: A GPU's first session compiles or loads kernels; a provider that takes longer hangs.
TIMEOUT_S = 180.0
#: genai_config.json's words where they differ from ours.
_GENAI_NAMES = {"trt-rtx": "NvTensorRtRtx"}


@dataclass(frozen=True)
class ProviderState:
    """One execution provider on this machine.

    Attributes:
        provider: our word for it, such as ``cuda``.
        name: ONNX Runtime's, such as ``CUDAExecutionProvider``.
        state: ``works`` (a graph ran on it), ``broken`` (listed, but nothing runs on it) or ``missing``.
        detail: the reason why it does not work and the cure; its gaps where it works.
        runtime: version of ONNX Runtime that was asked.
        devices: devices that it may run on, where they are known.
        kernels: kernel -> ``ok``, ``falls back``, ``wrong`` or ``fails: ...``.
    """

    provider: str
    name: str
    state: State
    detail: str = ""
    runtime: str = ""
    devices: tuple[str, ...] = ()
    kernels: Mapping[str, str] | None = None

    @property
    def lacking(self) -> tuple[str, ...]:
        """The kernels that are not ok, each with its verdict."""
        return tuple(f"{kernel} {verdict}" for kernel, verdict in (self.kernels or {}).items() if verdict != "ok")


def ort_name(provider: str) -> str:
    """ONNX Runtime's name of one of our providers."""
    if provider == "cpu":
        return CPU
    entry: dict[str, dict[str, str]] = {_GENAI_NAMES.get(provider, provider): {}}
    name, _ = asked_provider({"model": {"decoder": {"session_options": {"provider_options": [entry]}}}})
    return name


def provider_state(provider: str, python: str | Path = sys.executable, timeout_s: float = TIMEOUT_S) -> ProviderState:
    """Let a child process under the interpreter ``python`` run each kernel on a provider, within ``timeout_s`` seconds.

    Raises:
        UsageError: when ``python`` is no interpreter.
    """
    name, needs = ort_name(provider), f"it needs {PROVIDERS[provider].needs}"
    request = {
        "provider": name,
        "options": dict(PROVIDERS[provider].probe_options),
        "genai": provider,
        "kernels": {
            kernel: base64.b64encode(graph).decode()
            for kernel, graph in probe_graphs(PROVIDERS[provider].floats[0]).items()
        },
    }
    try:
        child = run_child(child_command(python, "providers.probe"), json.dumps(request), timeout_s)
    except subprocess.TimeoutExpired:
        return ProviderState(provider, name, "broken", f"it did not answer within {timeout_s:.0f} s; {needs}")
    if child.returncode:
        why = f"its process ended with exit code {child.returncode}: {_last_line(child.stderr)}"
        missing = "No module named" in child.stderr
        return ProviderState(provider, name, "missing" if missing else "broken", f"{why}; {needs}")
    try:
        answer = json.loads(child.stdout)
    except json.JSONDecodeError as error:
        raise UsageError(f"{python} is no Python interpreter: it answered {child.stdout[:80]!r}") from error
    return _read(provider, answer, child.stderr)


def _read(provider: str, answer: Mapping[str, Any], stderr: str) -> ProviderState:
    """Read the state from a child's answer."""
    name, needs = ort_name(provider), PROVIDERS[provider].needs
    runtime, devices = str(answer["runtime"]), tuple(answer["devices"])
    if name not in answer["listed"]:
        return ProviderState(provider, name, "missing", f"needs {needs}", runtime)
    if not answer["started"]:
        why = _loader_error(stderr) or answer["error"]
        return ProviderState(provider, name, "broken", f"{why}; it needs {needs}", runtime, devices)
    kernels = dict(answer["kernels"])
    usual = next(iter(kernels))
    if kernels[usual] != "ok":
        detail = f"{usual} {kernels[usual]}; it needs {needs}"
        return ProviderState(provider, name, "broken", detail, runtime, devices, kernels)
    gap = ""
    if answer["genai"] is False:
        gap = f"but this ONNX Runtime GenAI was built without it; it needs {needs}"
    return ProviderState(provider, name, "works", gap, runtime, devices, kernels)


def _loader_error(stderr: str) -> str:
    """The library that could not be loaded, which ONNX Runtime only logs."""
    for line in stderr.splitlines():
        _, separator, why = line.partition(" with error: ")
        if separator:
            return f"a library does not load: {why}"
    return ""


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]
