"""``olivine provider add``: make an environment of its own for a provider, with pinned packages, by venv and pip."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from rich.console import Console

from olivine.evaluators.providers.interpreters import environment
from olivine.evaluators.providers.state import ProviderState, provider_state
from olivine.passes.errors import OlivineError, UsageError, did_you_mean
from olivine.passes.providers import PROVIDERS
from olivine.search.planning.doctor import provider_table
from olivine.search.report.say import say


class EnvironmentFailed(OlivineError):
    """An environment could not be made; the message ends with pip's last lines."""


def add_provider(provider: str, to: Path | None, python: str, out: Console) -> tuple[Path, ProviderState]:
    """Make a provider's environment, and try the provider in it.

    Args:
        provider: olivine's name of it.
        to: the folder to make; ``envs/NAME`` by default. An existing environment gets the pinned versions.
        python: the interpreter that it is made from.
        out: for the result.

    Returns:
        The environment, and the state of the provider in it.

    Raises:
        UsageError: for a provider that needs no environment, or an unknown one.
        EnvironmentFailed: when venv or pip fails.
    """
    if provider not in PROVIDERS:
        raise UsageError(f"Unknown provider '{provider}'. {did_you_mean(provider, PROVIDERS)}")
    pins = PROVIDERS[provider].environment
    if not pins:
        raise UsageError(f"Provider '{provider}' needs no environment of its own: 'make install' brings it.")
    folder = to or environment(provider)
    fresh = not folder.exists()
    inside = folder / "bin" / "python"
    try:
        if fresh:
            _run([python, "-m", "venv", str(folder)])
        say(out, f"installing {' '.join(pins)} into {folder}")
        _run([str(inside), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pins])
    except BaseException:
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)  # half an environment would be taken for a whole one
        raise
    state = provider_state(provider, inside)
    out.print(provider_table([state]))
    say(out, f"Studies find it by its place; elsewhere: 'providers: {{{provider}: {{python: {inside}}}}}'")
    return folder, state


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n  ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-5:])
        raise EnvironmentFailed(f"'{' '.join(command[:4])} ...' ended with exit code {done.returncode}:\n  {last}")
