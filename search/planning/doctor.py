"""``olivine doctor``: what works on this machine. A provider works when a graph ran on it, not when it is listed."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from olivine.evaluators.process.servers.provider import CPU
from olivine.evaluators.providers.interpreters import interpreter
from olivine.evaluators.providers.state import ProviderState, provider_state
from olivine.passes.cpu import available_cores, cpu_name
from olivine.passes.errors import UsageError
from olivine.passes.providers import PROVIDERS
from olivine.passes.store.cache import cache_root
from olivine.search.environment import PACKAGES, installed
from olivine.search.planning.machine_speed import free_disk_bytes

HUB_TIMEOUT_S = 3.0
_STYLE = {"works": "green", "broken": "red", "missing": "dim"}
_APART = (
    "One flavour of ONNX Runtime replaces another: olivine provider add NAME makes an environment of its own for it, "
    "envs/NAME, which is asked here; ask any other with olivine doctor --python ENVIRONMENT/bin/python."
)


def doctor(
    console: Console,
    python: str | Path | None = None,
    state_of: Callable[[str, str | Path], ProviderState] = provider_state,
) -> int:
    """Print what is here, what works and what to install; builds and downloads nothing.

    Args:
        console: for the tables.
        python: the interpreter whose ONNX Runtime is asked for its providers; by default that of each provider's own
            environment, where there is one, and this one.
        state_of: tries a provider under an interpreter.

    Returns:
        The exit code: 0 when the CPU provider works, else 1.

    Raises:
        UsageError: when ``python`` is no interpreter.
    """
    providers = [state_of(provider, python or interpreter(provider, {})) for provider in PROVIDERS]
    console.print(_machine_table())
    console.print(_version_table())
    console.print(provider_table(providers))
    return 0 if any(p.name == CPU and p.state == "works" for p in providers) else 1


def hub_state() -> str:
    """A sentence about the Hugging Face hub. Being offline is no error, since models can be local."""
    from huggingface_hub import HfApi, get_session
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled  # type: ignore[attr-defined] # HTTPError is httpx's

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
    sizes: dict[tuple[int, int], int] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                about = (Path(place) / name).lstat()
            except FileNotFoundError:
                continue  # of a build that has just ended
            sizes[about.st_dev, about.st_ino] = about.st_size
    return sum(sizes.values())


def _machine_table() -> Table:
    memory, cache = psutil.virtual_memory(), cache_root()
    table = _table("machine")
    table.add_row("processor", f"{cpu_name()}, {available_cores()} cores for this process")
    table.add_row("system", platform.platform())
    table.add_row("memory", f"{memory.available / 1e9:.1f} GB free of {memory.total / 1e9:.1f} GB")
    try:
        table.add_row("disk", f"{free_disk_bytes(cache) / 1e9:.1f} GB free at the cache")
    except UsageError as error:
        table.add_row("disk", Text(str(error), style="red"))
    size = f"{folder_bytes(cache) / 1e9:.2f} GB"
    table.add_row("cache", Text(f"{cache}: {size}; OLIVINE_CACHE moves it, cache.max_bytes of a study bounds it"))
    table.add_row("hub", Text(hub_state()))
    return table


def _version_table() -> Table:
    table = _table("versions")
    table.add_row("python", platform.python_version())
    for package in PACKAGES:
        version = installed(package)
        missing = version == "not installed"
        words = f"{version}: pip install {package}" if missing else version
        table.add_row(package, Text(words, style="red" if missing else ""))
    return table


def provider_table(providers: Sequence[ProviderState]) -> Table:
    """The providers with their states, their devices, what they lack, and what to do about those that do not work."""
    runtimes = sorted({provider.runtime for provider in providers if provider.runtime})
    table = _table(f"execution providers of ONNX Runtime {' and '.join(runtimes)}")
    if any(provider.state != "works" for provider in providers):
        table.caption, table.caption_justify = Text(_APART, style="not italic dim"), "left"
    for provider in providers:
        words = Text(provider.state, style=_STYLE[provider.state])
        if provider.devices:
            words.append(f" on {', '.join(provider.devices)}", style="")
        if provider.detail:
            words.append(f": {provider.detail}", style="")
        if provider.lacking:
            words.append(f"; kernels: {', '.join(provider.lacking)}", style="yellow")
        words.append(f"\nolivine has run {PROVIDERS[provider.provider].ran}", style="dim")
        table.add_row(provider.provider, words)
    return table


def _table(title: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False, title=title, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    return table
