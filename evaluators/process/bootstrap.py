"""Command that starts a child process under an interpreter that may not have olivine."""

from __future__ import annotations

from pathlib import Path

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
