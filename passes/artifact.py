"""ModelArtifact: a folder that holds a model, with its key and its properties."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GENAI_CONFIG = "genai_config.json"
#: What an export adds to a model: its manifest, its card and the picture of the front that it was chosen from.
MANIFEST, CARD, PICTURE = ABOUT = ("olivine.json", "README.md", "front.svg")


@dataclass(frozen=True)
class ModelArtifact:
    """A model folder; never changed once made.

    Attributes:
        path: the folder.
        key: hash of everything that went into the folder (not of its bytes).
        properties: words that passes require, add and remove, such as ``checkpoint``, ``onnx``, ``float``, ``rotated``.
    """

    path: Path
    key: str
    properties: frozenset[str]

    def files(self) -> list[Path]:
        """Every regular file of the folder, in a fixed order."""
        return sorted(p for p in self.path.rglob("*") if p.is_file())

    def genai_config(self) -> dict[str, Any]:
        """The parsed genai_config.json of an ONNX artifact."""
        config: dict[str, Any] = json.loads((self.path / GENAI_CONFIG).read_text())
        return config

    def onnx_path(self) -> Path:
        """The decoder graph that genai_config.json names."""
        return self.path / str(self.genai_config()["model"]["decoder"]["filename"])

    def model_bytes(self) -> int:
        """Bytes of the graph and its external data: what a deployment downloads beside the tokenizer."""
        graph = self.onnx_path().name
        return sum(p.stat().st_size for p in self.files() if p.name == graph or p.name.startswith(graph + "."))


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link where the file system allows it (equal bytes are stored once), copy where not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
