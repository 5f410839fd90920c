"""The Hugging Face hub up to the network: one repository, backed by a folder."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

NAME = "organization/tiny"
COMMIT = "c0ffee" + "0" * 34


class FakeHub:
    """Stands for the hub; its branch is at ``commit``, and all commits have the same files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commit = COMMIT
        self.error: Exception | None = None
        self.asked: list[Any] = []

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Take the place of the hub's client."""
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: self)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", self.download)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.snapshot)

    def model_info(self, name: str, revision: str | None, **_: Any) -> SimpleNamespace:
        self.asked.append(revision)
        if self.error is not None:
            raise self.error
        files = [SimpleNamespace(rfilename=p.name, size=p.stat().st_size) for p in self.folder.iterdir()]
        commit = revision if revision is not None and len(revision) == len(COMMIT) else self.commit
        return SimpleNamespace(sha=commit, siblings=files, tags=["safetensors", "license:apache-2.0"])

    def download(self, name: str, filename: str, revision: str) -> str:
        assert name == NAME
        assert len(revision) == len(COMMIT)
        return str(self.folder / filename)

    def snapshot(self, name: str, revision: str, allow_patterns: list[str], local_files_only: bool = False) -> str:
        if local_files_only:
            raise errors.LocalEntryNotFoundError("not cached")
        assert revision == COMMIT
        assert "*.safetensors" in allow_patterns
        assert not {"*.bin", "*.pt"} & set(allow_patterns)
        return str(self.folder)
