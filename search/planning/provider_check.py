"""Whether the providers that a study asks for run on this machine: said before any work."""

from __future__ import annotations

import sys

from olivine.evaluators.providers.state import provider_state
from olivine.passes.errors import UsageError
from olivine.search.config.language import LanguageStudyConfig

CURE = "'olivine provider add NAME' makes an environment for one; or take them out of space.provider."


def absent_providers(config: LanguageStudyConfig) -> tuple[str, ...]:
    """A sentence for each asked provider that does not run here: what is missing, and what would bring it.

    The CPU is not asked: it is part of every ONNX Runtime, and a child process takes a third of a second.
    """
    pythons = config.pythons()
    asked = [provider for provider in config.asked_providers() if provider != "cpu" or provider in pythons]
    found = [provider_state(provider, pythons.get(provider, sys.executable)) for provider in asked]
    return tuple(
        f"provider '{state.provider}' does not run here: {state.state}: {state.detail}"
        for state in found
        if state.state != "works"
    )


def require_providers(config: LanguageStudyConfig) -> None:
    """Refuse a study whose candidates could not all be measured here.

    Raises:
        UsageError: naming every provider that does not run.
    """
    if absent := absent_providers(config):
        raise UsageError(
            "\n".join(
                (
                    *absent,
                    CURE,
                )
            )
        )
