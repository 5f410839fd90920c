"""Interpreters: the Python and the runtime loop that run the models of a provider.

ONNX Runtime's flavours replace each other, so a provider may have an environment of its own: the one that the YAML
names (``providers: {openvino: {python: ...}}``), or ``envs/openvino`` where ``olivine provider add openvino`` made it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from olivine.evaluators.process.client import Loop
from olivine.evaluators.process.servers.provider import asked_provider
from olivine.evaluators.providers.state import ort_name
from olivine.passes.artifact import GENAI_CONFIG
from olivine.passes.providers import PROVIDERS

ENVIRONMENTS = Path("envs")


def environment(provider: str) -> Path:
    """Folder in which the environment of a provider is made by default."""
    return ENVIRONMENTS / provider


def interpreter(provider: str, named: Mapping[str, str]) -> str:
    """The interpreter that runs a provider's models.

    Args:
        provider: our word for it.
        named: provider -> interpreter, as a YAML names them.
    """
    if provider in named:
        return str(Path(named[provider]).expanduser())
    own = environment(provider) / "bin" / "python"
    return str(own) if provider != "cpu" and own.exists() else sys.executable


def loop_of(providers: Iterable[str]) -> Loop:
    """The loop that runs the models of a study with these providers: one for all, so that they compare."""
    return "genai" if all(PROVIDERS[provider].genai for provider in providers) else "session"


def folder_options(folder: Path) -> dict[str, Any]:
    """Options of :meth:`ModelProcess.start` for the model in an ONNX Runtime GenAI folder, by its provider."""
    name, _ = asked_provider(json.loads((folder / GENAI_CONFIG).read_text(encoding="utf-8")))
    return process_options(next((provider for provider in PROVIDERS if ort_name(provider) == name), "cpu"))


def comparable_options(folders: Iterable[Path]) -> dict[Path, dict[str, Any]]:
    """Options of models that are compared: each has its interpreter, all have one loop."""
    options = {folder: folder_options(folder) for folder in folders}
    plain = any(each["loop"] == "session" for each in options.values())
    return {folder: each | ({"loop": "session"} if plain else {}) for folder, each in options.items()}


def process_options(provider: str, named: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Options of :meth:`ModelProcess.start` for a model of a provider by itself, outside of a study."""
    return {"python": interpreter(provider, named or {}), "loop": loop_of((provider,))}
