"""``olivine doctor``: what works on this machine. A provider works when a graph ran on it, not when it is listed."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from olivine.evaluators.process.servers.provider import CPU
from olivine.evaluators.providers.interpreters import interpreter
from olivine.evaluators.providers.state import ProviderState, provider_state
from olivine.passes.cpu import available_cores, cpu_name
from olivine.passes.errors import UsageError
from olivine.passes.providers import PROVIDERS
from olivine.passes.store.cache import cache_root
from olivine.search.environment import ABSENT, PACKAGES, installed
from olivine.search.planning.machine_speed import free_disk_bytes

HUB_TIMEOUT_S = 3.0
_STYLE = {"works": "green", "broken": "red", "missing": "dim"}
_APART = (
    "One flavour of ONNX Runtime replaces another: olivine provider add NAME makes an environment of its own for it, "
    "envs/NAME, which is asked here; ask any other with olivine doctor --python ENVIRONMENT/bin/python."
)


@dataclass(frozen=True)
class Examined:
    """A machine that was examined.

    Attributes:
        cpu: name of the processor.
        cores: for this process.
        system: operating system.
        ram_bytes: memory.
        free_ram_bytes: memory that is available.
        cache: folder of the cache.
        cache_bytes: that it takes.
        free_disk_bytes: where it lies; None where it can't be made.
        disk_error: why it can't; empty where it can.
        hub: a sentence about the hub.
        python: version of this interpreter.
        versions: package -> version, or None where it is not installed.
        providers: each known one.
    """

    cpu: str
    cores: int
    system: str
    ram_bytes: int
    free_ram_bytes: int
    cache: Path
    cache_bytes: int
    free_disk_bytes: int | None
    disk_error: str
    hub: str
    python: str
    versions: Mapping[str, str | None]
    providers: tuple[ProviderState, ...]

    @property
    def cpu_works(self) -> bool:
        """True where the CPU provider runs a graph."""
        return any(provider.name == CPU and provider.state == "works" for provider in self.providers)


def examine(
    python: str | Path | None = None, state_of: Callable[[str, str | Path], ProviderState] = provider_state
) -> Examined:
    """Look at what is here and try what works; builds and downloads nothing.

    Args:
        python: the interpreter whose ONNX Runtime is asked for its providers; by default that of each provider's own
            environment, where there is one, and this one.
        state_of: tries a provider under an interpreter.

    Raises:
        UsageError: when ``python`` is no interpreter.
    """
    providers = tuple(state_of(provider, python or interpreter(provider, {})) for provider in PROVIDERS)
    memory, cache = psutil.virtual_memory(), cache_root()
    free, disk_error = None, ""
    try:
        free = free_disk_bytes(cache)
    except UsageError as error:
        disk_error = str(error)
    versions = {package: installed(package) for package in PACKAGES}
    return Examined(
        cpu=cpu_name(),
        cores=available_cores(),
        system=platform.platform(),
        ram_bytes=memory.total,
        free_ram_bytes=memory.available,
        cache=cache,
        cache_bytes=folder_bytes(cache),
        free_disk_bytes=free,
        disk_error=disk_error,
        hub=hub_state(),
        python=platform.python_version(),
        versions={package: None if version == ABSENT else version for package, version in versions.items()},
        providers=providers,
    )


def machine_tables(examined: Examined) -> Group:
    """The tables of ``olivine doctor``: what is here, what works and what to install."""
    return Group(_machine_table(examined), _version_table(examined), provider_table(examined.providers))


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


def _machine_table(examined: Examined) -> Table:
    table = _table("machine")
    table.add_row("processor", f"{examined.cpu}, {examined.cores} cores for this process")
    table.add_row("system", examined.system)
    table.add_row("memory", f"{examined.free_ram_bytes / 1e9:.1f} GB free of {examined.ram_bytes / 1e9:.1f} GB")
    if examined.free_disk_bytes is None:
        table.add_row("disk", Text(examined.disk_error, style="red"))
    else:
        table.add_row("disk", f"{examined.free_disk_bytes / 1e9:.1f} GB free at the cache")
    size = f"{examined.cache_bytes / 1e9:.2f} GB"
    cache = f"{examined.cache}: {size}; OLIVINE_CACHE moves it, cache.max_bytes of a study bounds it"
    table.add_row("cache", Text(cache))
    table.add_row("hub", Text(examined.hub))
    return table


def _version_table(examined: Examined) -> Table:
    table = _table("versions")
    table.add_row("python", examined.python)
    for package, version in examined.versions.items():
        words = f"{ABSENT}: pip install {package}" if version is None else version
        table.add_row(package, Text(words, style="red" if version is None else ""))
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
