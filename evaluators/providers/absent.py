"""Execution providers that do not run on this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

from olivine.evaluators.providers.state import provider_state
from olivine.passes.errors import UsageError

CURE = "'olivine provider add NAME' makes an environment for one; or take them out of space.provider."


def require_providers(providers: Iterable[str], pythons: Mapping[str, str]) -> None:
    """Refuse providers that do not run here; arguments as of :func:`absent_providers`.

    Raises:
        UsageError: naming every provider that does not run.
    """
    if sentences := absent_providers(providers, pythons):
        raise UsageError("\n".join((*sentences, CURE)))


def absent_providers(providers: Iterable[str], pythons: Mapping[str, str]) -> tuple[str, ...]:
    """A sentence for each provider that does not run here: what is missing, and what would bring it.

    The CPU provider of this interpreter is not tried: it is part of every ONNX Runtime, and a child process takes a
    third of a second.

    Args:
        providers: olivine's names.
        pythons: provider -> interpreter, for those that run under another one than this.
    """
    tried = [provider for provider in providers if provider != "cpu" or provider in pythons]
    states = [provider_state(provider, pythons.get(provider, sys.executable)) for provider in tried]
    return tuple(
        f"provider '{state.provider}' does not run here: {state.state}: {state.detail}"
        for state in states
        if state.state != "works"
    )
