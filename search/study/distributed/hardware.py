"""The hardware fingerprint of a worker: latency is compared only between workers that have the same one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from olivine.evaluators.process.gpu import gpu_names
from olivine.passes.cpu import available_cores, cpu_name
from olivine.search.config.sections import StudyConfig
from olivine.search.environment import installed

#: Packages whose version changes how fast a model runs.
RUNTIMES = ("onnxruntime", "onnxruntime-genai")
_GB = 1_000_000_000


@dataclass(frozen=True)
class HardwareFingerprint:
    """Facts that decide how fast a model runs.

    Attributes:
        cpu: the processor's name.
        cores: cores that the process may use.
        memory_gb: memory of the machine, in whole GB: containers and kernels differ by some MB.
        gpus: names of the GPUs.
        providers: the execution providers of the study.
        versions: package -> version.
    """

    cpu: str
    cores: int
    memory_gb: int
    gpus: tuple[str, ...]
    providers: tuple[str, ...]
    versions: Mapping[str, str]

    @classmethod
    def of_this_machine(cls, config: StudyConfig) -> HardwareFingerprint:
        """That of this process, for a study."""
        return cls(
            cpu=cpu_name(),
            cores=available_cores(),
            memory_gb=round(psutil.virtual_memory().total / _GB),
            gpus=gpu_names(),
            providers=config.asked_providers(),
            versions={package: installed(package) for package in RUNTIMES} | _of_environments(config.pythons()),
        )

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> HardwareFingerprint:
        """The inverse of :meth:`to_json`."""
        lists = {name: tuple(entry[name]) for name in ("gpus", "providers")}
        return cls(**{**entry, **lists})

    def to_json(self) -> dict[str, Any]:
        """As the storage keeps it."""
        return asdict(self)

    def differences(self, other: HardwareFingerprint) -> list[str]:
        """The differences to ``other``, each in words; empty where latencies compare."""
        mine, theirs = self.to_json(), other.to_json()
        return [
            f"{name} {_words(mine[name])}, not {_words(theirs[name])}" for name in mine if mine[name] != theirs[name]
        ]


def _of_environments(pythons: Mapping[str, str]) -> dict[str, str]:
    """The flavours of ONNX Runtime in the environments of providers."""
    versions = {}
    for python in pythons.values():
        places = [str(place) for place in Path(python).parent.parent.glob("lib/python*/site-packages")]
        for package in metadata.distributions(path=places):
            if package.name.lower().startswith("onnxruntime"):
                versions[package.name.lower()] = package.version
    return versions


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name} {version}" for name, version in value.items())
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple | list) else str(value)
