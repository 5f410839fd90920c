"""Models from strangers: what leads out of the folder, brings code or claims the impossible is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from olivine.passes.errors import SourceError, UsageError
from olivine.passes.sources.source import resolve


@pytest.fixture
def checkpoint(tiny_llama: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_llama, tmp_path / "llama")


@pytest.fixture
def onnx_folder(tiny_onnx: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_onnx, tmp_path / "onnx")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("of somebody else")
    return path


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "sub/model.safetensors", "..", "", 7, "a\\b", "a\0b"])
def test_an_index_that_leads_out_of_its_folder_is_refused(checkpoint: Path, secret: Path, name: object) -> None:
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": name}}))
    with pytest.raises(SourceError, match="not in the folder itself"):
        resolve(str(checkpoint))


@pytest.mark.parametrize("file", ["tokenizer.json", "notes.txt"])
def test_a_link_out_of_the_folder_is_refused_since_an_export_would_carry_it_along(
    checkpoint: Path, secret: Path, file: str
) -> None:
    (checkpoint / file).unlink(missing_ok=True)
    (checkpoint / file).symlink_to(secret)
    with pytest.raises(SourceError, match=f"{file} is a link to .*secret, outside the folder"):
        resolve(str(checkpoint))


def test_links_within_the_folder_and_into_the_hubs_cache_are_welcome(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "tokenizer.json").rename(checkpoint / "real.json")
    (checkpoint / "tokenizer.json").symlink_to("real.json")
    assert resolve(str(checkpoint)).kind == "checkpoint"
    snapshot = tmp_path / "hub" / "snapshots" / "0123abc"
    (tmp_path / "hub" / "blobs").mkdir(parents=True)
    shutil.copytree(checkpoint, snapshot)
    (snapshot / "config.json").rename(tmp_path / "hub" / "blobs" / "9f")
    (snapshot / "config.json").symlink_to("../../blobs/9f")
    assert resolve(str(snapshot)).kind == "checkpoint"


def test_weights_may_lie_on_another_disk_if_they_are_weights(checkpoint: Path, secret: Path, tmp_path: Path) -> None:
    weights = checkpoint / "model.safetensors"
    weights.rename(tmp_path / "elsewhere.safetensors")
    weights.symlink_to(tmp_path / "elsewhere.safetensors")
    assert resolve(str(checkpoint)).kind == "checkpoint"
    weights.unlink()
    weights.symlink_to(secret)
    with pytest.raises(SourceError, match="no safetensors file"):
        resolve(str(checkpoint))


def test_pickled_weights_are_refused(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    with pytest.raises(SourceError, match="pickled"):
        resolve(str(checkpoint))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"filename": "../model.onnx"}, "not in the folder itself"),
        ({"filename": "/etc/passwd"}, "not in the folder itself"),
        ({"session_options": {"custom_ops_library": "evil.bin"}}, "loads native code"),
        ({"session_options": {"provider_options": [{"QNN": {"backend_path": "x"}}]}}, "loads native code"),
        ({"session_options": {"provider_options": [{"X": {"anything": "/tmp/evil.SO"}}]}}, "loads native code"),
    ],
)
def test_a_genai_config_that_leads_out_or_brings_code_is_refused(
    onnx_folder: Path, change: dict[str, object], message: str
) -> None:
    path = onnx_folder / "genai_config.json"
    config = json.loads(path.read_text())
    config["model"]["decoder"] |= change
    path.write_text(json.dumps(config))
    with pytest.raises(SourceError, match=message):
        resolve(str(onnx_folder))


def test_chat_and_bench_refuse_native_code_too(onnx_folder: Path) -> None:
    from olivine.passes.sources.genai_folder import read_genai_config

    path = onnx_folder / "genai_config.json"
    config = json.loads(path.read_text())
    config["model"]["decoder"]["session_options"]["custom_ops_library"] = "evil.so"
    path.write_text(json.dumps(config))
    with pytest.raises(UsageError, match="loads native code"):
        read_genai_config(onnx_folder)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd"])
def test_external_data_outside_the_folder_is_refused(onnx_folder: Path, secret: Path, location: str) -> None:
    import onnx

    path = onnx_folder / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    external = next(t for t in model.graph.initializer if t.external_data)
    next(entry for entry in external.external_data if entry.key == "location").value = location
    onnx.save(model, path)
    with pytest.raises(SourceError, match="not in the folder itself"):
        resolve(str(onnx_folder))


def test_a_config_nested_beyond_reason_is_refused(checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text('{"a":' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(SourceError, match="nested"):
        resolve(str(checkpoint))


def test_a_hostile_chat_template_reads_no_attribute_and_runs_nothing(onnx_folder: Path, tmp_path: Path) -> None:
    """The templates of a model are rendered in a sandbox, which lets them reach for no Python object."""
    from olivine.search.export.chat import Conversation, load

    target = tmp_path / "written"
    hostile = "{{ ''.__class__.__mro__[1].__subclasses__() }}{{ cycler.__init__.__globals__.os.popen('touch %s') }}"
    (onnx_folder / "chat_template.jinja").write_text(hostile % target)
    conversation: Conversation = load(onnx_folder)
    conversation.messages.append({"role": "user", "content": "hello"})
    with pytest.raises(UsageError, match="access to attribute '__class__' of 'str' object is unsafe"):
        conversation._prompt("hello")
    assert not target.exists()
