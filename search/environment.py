"""The machine that a study runs on: hardware, operating system, versions; environment.json holds them."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from olivine.passes.cpu import available_cores, cpu_name

PACKAGES = (
    "olivine",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "onnxruntime-genai",
    "optuna",
    "optuna-dashboard",
    "torch",
    "transformers",
    "numpy",
    "datasets",
    "evaluate",
    "pandas",
)


#: Entries of a description that tell the machine.
HARDWARE = ("cpu", "cores", "memory_bytes", "system")
#: What stands for the version of a package that is not there.
ABSENT = "not installed"


def describe_environment() -> dict[str, Any]:
    """Hardware, operating system and versions."""
    return {
        "cpu": cpu_name(),
        "cores": available_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {package: installed(package) for package in PACKAGES},
    }


def installed(package: str) -> str:
    """Version of an installed package, or ``not installed``."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ABSENT
