"""Start of child processes under an interpreter that may not have olivine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from olivine.evaluators.process.lifecycle import starter_environment
from olivine.evaluators.process.scheduling import STEADY_MEMORY
from olivine.passes.errors import UsageError
from olivine.passes.store.secrets import without_secrets

# The child gets this folder alone, as olivine.evaluators, and imports nothing but the standard library, numpy,
# onnxruntime and onnxruntime_genai from elsewhere.
_BOOTSTRAP = """
import runpy, sys, types
for name, path in (("olivine", []), ("olivine.evaluators", [sys.argv[1]])):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = path
runpy.run_module(sys.argv[2], run_name="__main__")
"""


def child_command(python: str | Path, module: str, *arguments: str) -> list[str]:
    """The command that runs ``olivine.evaluators.<module>`` with ``arguments`` under the interpreter ``python``."""
    place = str(Path(__file__).parents[1])
    return [str(python), "-P", "-c", _BOOTSTRAP, place, f"olivine.evaluators.{module}", *arguments]


def child_environment() -> dict[str, str]:
    """Environment of a child: without secrets, with steady memory, and with the process that starts it."""
    return {**without_secrets(os.environ), **STEADY_MEMORY, **starter_environment()}


def plain_environment() -> dict[str, str]:
    """Environment of a child that runs as a program of the user's would: without secrets, and with nothing added."""
    return without_secrets(os.environ)


def run_child(command: Sequence[str], stdin: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run a child that answers once, to its end.

    Raises:
        UsageError: when the command can't be run.
        TimeoutExpired: when it takes longer.
    """
    try:
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=timeout_s, env=child_environment()
        )
    except OSError as error:
        raise UsageError(f"{command[0]} can't be run: {error}. Name a Python interpreter.") from error
