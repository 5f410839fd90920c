from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from olivine.passes.errors import SourceError
from olivine.passes.source import resolve

NAME = "organization/tiny"
COMMIT = "c0ffee" + "0" * 34


class FakeHub:
    """Stands for the hub up to the network: one repository, backed by a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.error: Exception | None = None
        self.asked: list[Any] = []

    def model_info(self, name: str, revision: str | None, **_: Any) -> SimpleNamespace:
        self.asked.append(revision)
        if self.error is not None:
            raise self.error
        files = [SimpleNamespace(rfilename=p.name, size=p.stat().st_size) for p in self.folder.iterdir()]
        return SimpleNamespace(sha=COMMIT, siblings=files, tags=["safetensors", "license:apache-2.0"])

    def download(self, name: str, filename: str, revision: str) -> str:
        assert (name, revision) == (NAME, COMMIT)
        return str(self.folder / filename)

    def snapshot(self, name: str, revision: str, allow_patterns: list[str], local_files_only: bool = False) -> str:
        if local_files_only:
            raise errors.LocalEntryNotFoundError("not cached")
        assert revision == COMMIT
        assert "*.safetensors" in allow_patterns
        assert not {"*.bin", "*.pt"} & set(allow_patterns)
        return str(self.folder)


@pytest.fixture
def hub(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub(tiny_llama)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: fake)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fake.download)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.snapshot)
    return fake


def http_error(kind: type[errors.HfHubHTTPError], status: int) -> errors.HfHubHTTPError:
    response = SimpleNamespace(status_code=status, headers={}, request=None)
    return kind("no", response=response)  # type: ignore[arg-type]


def test_hub_model_is_pinned_to_its_commit(hub: FakeHub, tmp_path: Path) -> None:
    found = resolve(NAME, revision="v1")
    assert (found.kind, found.revision, found.architecture) == ("hub", COMMIT, "LlamaForCausalLM")
    assert found.license == "apache-2.0"
    assert hub.asked == ["v1"]
    (tmp_path / "to").mkdir()
    assert found.materialize(tmp_path / "to") == {"checkpoint"}
    assert (tmp_path / "to" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("kind", "status", "message"),
    [
        (errors.RepositoryNotFoundError, 404, "has no model 'organization/tiny', or it is private"),
        (errors.RevisionNotFoundError, 404, "has no revision 'v9'"),
        (errors.GatedRepoError, 403, "is gated: accept its terms"),
        (errors.HfHubHTTPError, 503, "the Hugging Face hub does not answer"),
    ],
)
def test_every_refusal_of_the_hub_is_one_clear_error(
    kind: type[errors.HfHubHTTPError], status: int, message: str, hub: FakeHub
) -> None:
    hub.error = http_error(kind, status)
    with pytest.raises(SourceError, match=message):
        resolve(NAME, revision="v9")


def test_unreachable_hub_is_one_clear_error(hub: FakeHub) -> None:
    hub.error = errors.OfflineModeIsEnabled("HF_HUB_OFFLINE is set")
    with pytest.raises(SourceError, match=r"does not answer .*demo:smollm2-135m-instruct"):
        resolve(NAME)


def test_unreachable_hub_is_no_obstacle_for_a_model_fetched_before(
    hub: FakeHub, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    kept = Path(shutil.copytree(tiny_llama, tmp_path / COMMIT))
    hub.error = errors.OfflineModeIsEnabled("HF_HUB_OFFLINE is set")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: str(kept))
    assert resolve(NAME).revision == COMMIT


def test_repository_with_pickled_weights_is_refused(hub: FakeHub, tmp_path: Path) -> None:
    for name in ("config.json", "pytorch_model.bin"):
        (tmp_path / name).write_text("{}")
    hub.folder = tmp_path
    with pytest.raises(SourceError, match="its weights are pickled"):
        resolve(NAME)
