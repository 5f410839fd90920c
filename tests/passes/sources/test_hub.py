from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from fake_hub import COMMIT, NAME, FakeHub
from huggingface_hub import errors
from safetensors.numpy import load_file
from tiny_coded import awq, coded_checkpoint, quantized

from olivine.passes.errors import SourceError
from olivine.passes.sources.source import resolve


@pytest.fixture
def hub(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub(tiny_llama)
    fake.install(monkeypatch)
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


def test_hub_model_of_codes_becomes_floats(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm"}
    make = partial(quantized, bits=4, group=32, symmetric=True)
    floats = coded_checkpoint(tiny_llama, tmp_path / "coded", awq, about, lambda name, weight: make(weight))
    FakeHub(tmp_path / "coded").install(monkeypatch)
    source = resolve(NAME)
    assert (source.codes, source.dtype) == ("AWQ int4 group 32", "float32")
    (tmp_path / "to").mkdir()
    assert source.materialize(tmp_path / "to") == {"checkpoint", "codes"}
    assert load_file(tmp_path / "to" / "model.safetensors").keys() == floats.keys()
