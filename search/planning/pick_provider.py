"""Which execution provider a model is optimized for: what was asked, or what works on this machine."""

from __future__ import annotations

from collections.abc import Callable

from olivine.evaluators.providers.interpreters import interpreter
from olivine.evaluators.providers.state import ProviderState, provider_state
from olivine.passes.errors import UsageError
from olivine.search.environment import gpu_names
from olivine.search.planning.optimize_request import DEVICES, OptimizeRequest
from olivine.search.planning.provider_check import CURE


def _look(provider: str) -> ProviderState:
    return provider_state(provider, interpreter(provider, {}))


def pick_provider(request: OptimizeRequest, look: Callable[[str], ProviderState] = _look) -> tuple[str, str]:
    """The provider, and in a few words why.

    Args:
        request: with device and provider, or without.
        look: tells what a provider can do here.

    Raises:
        UsageError: when a GPU is asked for and no provider runs on one.
    """
    if request.provider:
        return request.provider, "as asked"
    if request.device == "cpu":
        return "cpu", "as asked"
    if request.device == "gpu":
        states = []
        for provider in DEVICES["gpu"]:
            states.append(state := look(provider))
            if state.state == "works":
                return provider, f"it works here on {', '.join(state.devices) or 'the GPU'}"
        lines = [f"  {state.provider}: {state.state}: {state.detail}" for state in states]
        raise UsageError("\n".join(["--device gpu: no provider runs on a GPU here.", *lines, CURE]))
    gpus = gpu_names()
    if not gpus:
        return "cpu", "no NVIDIA GPU is here; --device gpu looks for others"
    state = look("cuda")
    if state.state == "works":
        return "cuda", f"{gpus[0]} is here, and its provider works"
    return "cpu", f"{gpus[0]} is here, but its provider is {state.state}: {state.detail}"
