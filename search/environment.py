"""The machine that a study runs on: hardware, operating system, versions; environment.json holds them."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from olivine.passes.cpu import available_cores, cpu_name
from olivine.passes.sources.source import Source

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


def describe_environment(source: Source | None = None) -> dict[str, Any]:
    """Hardware, operating system and versions; and the model, where one is given."""
    environment: dict[str, Any] = {
        "cpu": cpu_name(),
        "cores": available_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {package: installed(package) for package in PACKAGES},
    }
    if source is not None:
        environment["model"] = describe_model(source)
    return environment


def describe_model(source: Source) -> dict[str, Any]:
    """Name, commit and identity of a model."""
    return {
        "name": source.name,
        "kind": source.kind,
        "revision": source.revision,
        "architecture": source.architecture,
        "key": source.key,
        "license": source.license,
        **({"notes": list(source.notes)} if source.notes else {}),
    }


def installed(package: str) -> str:
    """Version of an installed package, or ``not installed``."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ABSENT
