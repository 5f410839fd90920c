"""Rows of the comparison: a model as one engine deploys it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from olivine.evaluators.peers.process import Launch

OLIVINE, LLAMA, OPENVINO, BUILDER = ENGINES = ("olivine", "llama.cpp", "OpenVINO", "model builder")
#: Files of an exported folder that change nothing of what it computes.
ABOUT = {"olivine.json", "README.md", "front.svg"}


@dataclass(frozen=True)
class Row:
    """A model as one engine deploys it.

    Attributes:
        engine: one of ``ENGINES``.
        name: of the format.
        path: the file or folder that is deployed.
        launch: starts the engine on it.
        timed: False of a float model that only proves that an engine has the same weights.
    """

    engine: str
    name: str
    path: Path
    launch: Launch
    timed: bool = True

    @property
    def title(self) -> str:
        """Engine and format."""
        return f"{self.engine} {self.name}"

    def files(self) -> list[Path]:
        """Files that are deployed."""
        return sorted(p for p in self.path.rglob("*") if p.is_file()) if self.path.is_dir() else [self.path]

    def deployed_bytes(self) -> int:
        """Bytes of all that is deployed."""
        return sum(path.stat().st_size for path in self.files())

    def content(self) -> str:
        """Hash of what the engine loads: measurements are of this content."""
        found = hashlib.sha256()
        for path in self.files():
            if path.name not in ABOUT:
                with path.open("rb") as file:
                    found.update(hashlib.file_digest(file, "sha256").digest())
        return found.hexdigest()[:16]
