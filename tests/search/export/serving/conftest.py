"""A tiny model with room for long answers, exported once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from olivine.passes.export.export import Export


@pytest.fixture(scope="session")
def roomy_onnx(make_tiny_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX Runtime GenAI folder with a context of 4096 tokens; do not write into it."""
    folder = tmp_path_factory.mktemp("roomy") / "model"
    folder.mkdir()
    checkpoint = make_tiny_checkpoint(folder.parent / "checkpoint", more={"max_position_embeddings": 4096})
    Export().apply(checkpoint, folder)
    return folder
