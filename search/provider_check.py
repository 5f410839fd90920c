"""Whether the providers that a study asks for run on this machine: said before any work."""

from __future__ import annotations

from olivine.passes.errors import UsageError
from olivine.passes.export import Export
from olivine.search.config import StudyConfig
from olivine.search.provider_state import provider_state


def asked_providers(config: StudyConfig) -> tuple[str, ...]:
    """The providers among the values of the study's space; the default where it names none."""
    default = next(axis.default for axis in Export.axes if axis.name == "provider")
    domains = [domain for domain in config.search_space().domains if domain.axis.name == "provider"]
    return tuple(map(str, domains[0].values if domains else (default,)))


def absent_providers(config: StudyConfig) -> tuple[str, ...]:
    """A sentence for each asked provider that does not run here: what is missing, and what would bring it.

    The CPU is not asked: it is part of every ONNX Runtime, and a child process takes a third of a second.
    """
    found = [provider_state(provider) for provider in asked_providers(config) if provider != "cpu"]
    return tuple(
        f"provider '{state.provider}' does not run here: {state.state}: {state.detail}"
        for state in found
        if state.state != "works"
    )


def require_providers(config: StudyConfig) -> None:
    """Refuse a study whose candidates could not all be measured here.

    Raises:
        UsageError: naming every provider that does not run.
    """
    if absent := absent_providers(config):
        raise UsageError("\n".join((*absent, "Take them out of space.provider, or run the study where they work.")))
