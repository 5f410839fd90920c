"""Which interpreter runs the models of a provider, and by which loop.

ONNX Runtime's flavours replace each other, so a provider may have an environment of its own: the one that the YAML
names (``providers: {openvino: {python: ...}}``), or ``envs/openvino`` where ``olivine provider add openvino`` made it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from olivine.evaluators.arm import Loop
from olivine.passes.providers import PROVIDERS

ENVIRONMENTS = Path("envs")


def environment(provider: str) -> Path:
    """Where the environment of a provider is made by default."""
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
    """What runs the models of a study with these providers: one loop for all, so that like is compared with like."""
    return "genai" if all(PROVIDERS[provider].genai for provider in providers) else "session"


def arm_options(provider: str, named: Mapping[str, str] | None = None) -> dict[str, Any]:
    """How a model of a provider is run by itself, outside of a study: as :meth:`Arm.start` takes it."""
    return {"python": interpreter(provider, named or {}), "loop": loop_of((provider,))}
