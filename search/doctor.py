"""What works here: ``olivine doctor``. A provider works when a graph ran on it, not when it is listed."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from olivine.evaluators.session import CPU, asked_provider
from olivine.passes.cache import DEFAULT_MAX_BYTES, cache_root
from olivine.passes.export import FLOAT_PRECISIONS
from olivine.passes.session_options import available_cores
from olivine.search.environment import PACKAGES, cpu_name, installed

State = Literal["works", "broken", "missing"]

HUB_TIMEOUT_S = 3.0
_STYLE = {"works": "green", "broken": "red", "missing": "dim"}
_APART = (
    "One flavour of ONNX Runtime replaces another: install each in an environment of its own, and name its interpreter."
)
#: Provider -> what brings it.
INSTALL = {
    "cpu": "pip install onnxruntime onnxruntime-genai",
    "cuda": "an NVIDIA GPU, and pip install onnxruntime-gpu onnxruntime-genai-cuda",
    "dml": "Windows, and pip install onnxruntime-directml onnxruntime-genai-directml",
    "webgpu": "a GPU, and pip install onnxruntime-webgpu onnxruntime-genai",
    "trt-rtx": "an NVIDIA RTX GPU, and pip install onnxruntime-trt-rtx onnxruntime-genai-cuda",
    "qnn": "a Qualcomm NPU, and pip install onnxruntime-qnn onnxruntime-genai",
    "openvino": "pip install onnxruntime-openvino onnxruntime-genai",
}
#: genai_config.json's words where they differ from ours.
_GENAI_NAMES = {"trt-rtx": "NvTensorRtRtx"}
#: What a provider needs to run on any machine that has its libraries.
_OPTIONS = {"openvino": {"device_type": "CPU"}}


@dataclass(frozen=True)
class ProviderState:
    """One execution provider as it is found here.

    Attributes:
        provider: our word for it, such as ``cuda``.
        name: ONNX Runtime's, such as ``CUDAExecutionProvider``.
        state: ``works`` (a graph ran on it), ``broken`` (listed, but nothing runs on it) or ``missing``.
        detail: why it does not work, or what would bring it; empty where it works.
    """

    provider: str
    name: str
    state: State
    detail: str = ""


def doctor(console: Console) -> int:
    """Print what is here, what works and what to install; builds and downloads nothing.

    Returns:
        The exit code: 0 when the CPU provider works, else 1.
    """
    providers = [probe(provider) for provider in FLOAT_PRECISIONS]
    console.print(_machine_table())
    console.print(_version_table())
    console.print(provider_table(providers))
    return 0 if any(p.name == CPU and p.state == "works" for p in providers) else 1


def ort_name(provider: str) -> str:
    """ONNX Runtime's name of one of our providers."""
    if provider == "cpu":
        return CPU
    entry: dict[str, dict[str, str]] = {_GENAI_NAMES.get(provider, provider): {}}
    name, _ = asked_provider({"model": {"decoder": {"session_options": {"provider_options": [entry]}}}})
    return name


def probe(provider: str) -> ProviderState:
    """Run a tiny graph on a provider, with every way back to the CPU closed."""
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    name = ort_name(provider)
    if name not in ort.get_available_providers():
        return ProviderState(provider, name, "missing", f"needs {INSTALL[provider]}")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if name != CPU:  # ONNX Runtime refuses the option where the CPU is what was asked for
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    asked = [(name, _OPTIONS.get(provider, {}))]
    try:
        session = ort.InferenceSession(probe_graph(), options, providers=asked, enable_fallback=0)
        (product,) = session.run(None, {"x": [[1.0, 2.0], [3.0, 4.0]]})
    except (
        errors.Fail,
        errors.EPFail,
        errors.NotImplemented,
        errors.InvalidArgument,
        errors.InvalidGraph,
        errors.RuntimeException,
        RuntimeError,
        ValueError,
    ) as error:
        return ProviderState(provider, name, "broken", f"{error}; it needs {INSTALL[provider]}")
    ran = session.get_providers()[0]
    if ran != name:
        return ProviderState(provider, name, "broken", f"{ran} ran instead; it needs {INSTALL[provider]}")
    if product.tolist() != [[7.0, 10.0], [15.0, 22.0]]:
        return ProviderState(provider, name, "broken", f"it computed a wrong product: {product.tolist()}")
    return ProviderState(provider, name, "works", _genai_gap(provider))


def probe_graph() -> bytes:
    """A serialized graph that squares a 2 x 2 matrix."""
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "x"], ["y"])],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def _genai_gap(provider: str) -> str:
    """What ONNX Runtime GenAI lacks for a provider that works in ONNX Runtime; it says so for some."""
    import onnxruntime_genai as genai

    asked = getattr(genai, f"is_{provider}_available", None)
    if asked is None or asked():
        return ""
    return f"but this ONNX Runtime GenAI was built without it; it needs {INSTALL[provider]}"


def hub_state() -> str:
    """Whether the Hugging Face hub answers; being offline is no error, since models can be local."""
    from huggingface_hub import HfApi, get_session
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled  # type: ignore[attr-defined]

    endpoint = str(HfApi().endpoint)
    local = "hub models need it, local ones and demo:smollm2-135m-instruct do not"
    try:
        answer = get_session().head(endpoint, timeout=HUB_TIMEOUT_S)
    except OfflineModeIsEnabled:
        return f"switched off by HF_HUB_OFFLINE ({local})"
    except (HTTPError, OSError) as error:
        return f"{endpoint} does not answer: {error} ({local})"
    return f"{endpoint} answers (status {answer.status_code})"


def folder_bytes(folder: Path) -> int:
    """Bytes on disk below a folder; hard links to one file count once."""
    seen: dict[tuple[int, int], int] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                about = (Path(place) / name).lstat()
            except FileNotFoundError:
                continue  # a build that has just ended
            seen[about.st_dev, about.st_ino] = about.st_size
    return sum(seen.values())


def free_disk_bytes(folder: Path) -> int:
    """Free bytes where a folder is, or will be made."""
    absolute = folder.resolve()
    existing = next(place for place in (absolute, *absolute.parents) if place.exists())
    return shutil.disk_usage(existing).free


def _machine_table() -> Table:
    memory, cache = psutil.virtual_memory(), cache_root()
    table = _table("machine")
    table.add_row("processor", f"{cpu_name()}, {available_cores()} cores for this process")
    table.add_row("system", platform.platform())
    table.add_row("memory", f"{memory.available / 1e9:.1f} GB free of {memory.total / 1e9:.1f} GB")
    table.add_row("disk", f"{free_disk_bytes(cache) / 1e9:.1f} GB free at the cache")
    kept = f"{folder_bytes(cache) / 1e9:.2f} GB of at most {DEFAULT_MAX_BYTES / 1e9:.0f} GB"
    table.add_row("cache", Text(f"{cache}: {kept}; OLIVINE_CACHE moves it"))
    table.add_row("hub", Text(hub_state()))
    return table


def _version_table() -> Table:
    table = _table("versions")
    table.add_row("python", platform.python_version())
    for package in PACKAGES:
        found = installed(package)
        missing = found == "not installed"
        words = f"{found}: pip install {package}" if missing else found
        table.add_row(package, Text(words, style="red" if missing else ""))
    return table


def provider_table(providers: list[ProviderState]) -> Table:
    """The providers with their states, and what to do about those that do not work."""
    table = _table("execution providers")
    if any(provider.state != "works" for provider in providers):
        table.caption, table.caption_justify = Text(_APART, style="not italic dim"), "left"
    for provider in providers:
        words = Text(provider.state, style=_STYLE[provider.state])
        if provider.detail:
            words.append(f": {provider.detail}", style="")
        table.add_row(provider.provider, words)
    return table


def _table(title: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False, title=title, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    return table
