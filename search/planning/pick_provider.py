"""Pick the execution provider that ``olivine optimize`` builds for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from olivine.evaluators.process.gpu import gpu_names
from olivine.evaluators.providers.absent import CURE
from olivine.evaluators.providers.interpreters import interpreter
from olivine.evaluators.providers.state import ProviderState, provider_state
from olivine.passes.errors import UsageError
from olivine.search.planning.optimize_request import DEVICES, OptimizeRequest


@dataclass(frozen=True)
class ProviderChoice:
    """An execution provider and, in a few words, the reason for it."""

    name: str
    why: str


def _state_here(provider: str) -> ProviderState:
    return provider_state(provider, interpreter(provider, {}))


def pick_provider(
    request: OptimizeRequest,
    state_of: Callable[[str], ProviderState] = _state_here,
    gpus_here: Callable[[], Sequence[str]] = gpu_names,
) -> ProviderChoice:
    """Pick the provider that is asked for, else the GPU's where it works here, else the CPU.

    Args:
        request: with device and provider, or without.
        state_of: tells what a provider can do here.
        gpus_here: names of the NVIDIA GPUs of this machine.

    Raises:
        UsageError: when a GPU is asked for and no provider runs on one.
    """
    if request.provider:
        return ProviderChoice(request.provider, "as asked")
    if request.device == "cpu":
        return ProviderChoice("cpu", "as asked")
    if request.device == "gpu":
        return _first_that_works(DEVICES["gpu"], state_of)
    gpus = gpus_here()
    if not gpus:
        return ProviderChoice("cpu", "no NVIDIA GPU is here; --device gpu looks for others")
    state = state_of("cuda")
    if state.state == "works":
        return ProviderChoice("cuda", f"{gpus[0]} is here, and its provider works")
    return ProviderChoice("cpu", f"{gpus[0]} is here, but its provider is {state.state}: {state.detail}")


def _first_that_works(providers: Sequence[str], state_of: Callable[[str], ProviderState]) -> ProviderChoice:
    states = []
    for provider in providers:
        states.append(state := state_of(provider))
        if state.state == "works":
            return ProviderChoice(provider, f"it works here on {', '.join(state.devices) or 'the GPU'}")
    lines = [f"  {state.provider}: {state.state}: {state.detail}" for state in states]
    raise UsageError("\n".join(["--device gpu: no provider runs on a GPU here.", *lines, CURE]))
