from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import SourceError
from olivine.passes.pipeline import build
from olivine.passes.sources import source
from olivine.passes.sources.gguf import file as gguf_file
from olivine.passes.sources.source import resolve
from olivine.passes.store.cache import Cache, cache_root
from olivine.passes.store.digests import sha256_file


@pytest.fixture
def folder(tiny_llama: Path, tmp_path: Path) -> Path:
    """A checkpoint that a test may change."""
    return Path(shutil.copytree(tiny_llama, tmp_path / "mine"))


def edit_config(folder: Path, **changes: Any) -> Path:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def materialized(model: str, to: Path, **options: Any) -> tuple[frozenset[str], set[str]]:
    to.mkdir()
    properties = resolve(model, **options).materialize(to)
    return properties, {p.name for p in to.iterdir()}


def test_checkpoint_folder_is_resolved(folder: Path) -> None:
    found = resolve(str(folder))
    assert (found.kind, found.name, found.architecture) == ("checkpoint", "mine", "LlamaForCausalLM")
    assert (found.dtype, found.revision) == ("float32", None)
    assert found.weight_bytes == (folder / "model.safetensors").stat().st_size
    assert found.config is not None
    assert found.config["hidden_size"] == 64


def test_checkpoint_is_materialized_without_what_does_not_belong(folder: Path, tmp_path: Path) -> None:
    for name in ("optimizer.pt", "trainer_state.json", "modeling.py", "README.md"):
        (folder / name).write_text("{}")
    properties, names = materialized(str(folder), tmp_path / "to")
    assert properties == {"checkpoint"}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= names
    assert "chat_template.jinja" in names
    assert not names & {"optimizer.pt", "trainer_state.json", "modeling.py", "README.md"}


def test_code_is_taken_only_where_it_is_trusted(folder: Path, tmp_path: Path) -> None:
    (folder / "modeling.py").write_text("")
    _, names = materialized(str(folder), tmp_path / "to", trust_remote_code=True)
    assert "modeling.py" in names


def test_writing_into_the_users_folder_later_changes_nothing(folder: Path, tmp_path: Path) -> None:
    materialized(str(folder), tmp_path / "to")
    before = sha256_file(tmp_path / "to" / "model.safetensors")
    with (folder / "model.safetensors").open("r+b") as stream:
        stream.write(b"\xff" * 64)
    assert sha256_file(tmp_path / "to" / "model.safetensors") == before


def test_key_is_of_the_content_and_not_of_the_place(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    assert resolve(str(copy)).key == resolve(str(folder)).key
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert resolve(str(copy)).key != resolve(str(folder)).key


def test_key_follows_the_tokenizer(folder: Path) -> None:
    before = resolve(str(folder)).key
    with (folder / "tokenizer.json").open("a") as stream:
        stream.write("\n")
    assert resolve(str(folder)).key != before


def test_onnx_folder_is_resolved_and_materialized(tiny_onnx: Path, tmp_path: Path) -> None:
    found = resolve(str(tiny_onnx))
    assert (found.kind, found.architecture, found.dtype) == ("onnx", "llama", "float32")
    properties, names = materialized(str(tiny_onnx), tmp_path / "to")
    assert properties == {"onnx", "float"}
    assert names == {p.name for p in tiny_onnx.iterdir()}


def test_quantized_onnx_folder_is_refused(tiny_onnx: Path, tmp_path: Path) -> None:
    import onnx

    copy = Path(shutil.copytree(tiny_onnx, tmp_path / "quantized"))
    model = onnx.load(copy / "model.onnx", load_external_data=False)
    next(node for node in model.graph.node if node.op_type == "MatMul").op_type = "MatMulNBits"
    (copy / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(SourceError, match=r"quantized already \(1 MatMulNBits nodes\)"):
        resolve(str(copy))


def test_onnx_folder_without_its_data_is_refused(tiny_onnx: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_onnx, tmp_path / "half"))
    (copy / "model.onnx.data").unlink()
    with pytest.raises(SourceError, match=r"model\.onnx\.data, which is not there"):
        resolve(str(copy))


@pytest.mark.parametrize("name", ["model.onnx_data", "weights.bin"])
def test_weights_of_an_onnx_folder_are_named_after_its_graph(tiny_onnx: Path, tmp_path: Path, name: str) -> None:
    import onnx

    copy = Path(shutil.copytree(tiny_onnx, tmp_path / "other"))
    (copy / "model.onnx.data").rename(copy / name)
    graph = onnx.load(copy / "model.onnx", load_external_data=False)
    for tensor in graph.graph.initializer:
        for entry in tensor.external_data:
            entry.value = name if entry.key == "location" else entry.value
    onnx.save(graph, copy / "model.onnx")
    before = {p.name: p.read_bytes() for p in copy.iterdir()}
    _, names = materialized(str(copy), tmp_path / "to")
    assert names == {p.name for p in tiny_onnx.iterdir()}
    assert (tmp_path / "to" / "model.onnx.data").read_bytes() == before[name]
    shutil.copytree(tiny_onnx, tmp_path / "expected")  # onnx reads no file that has hard links, as this one may have
    found, expected = (onnx.load(tmp_path / folder / "model.onnx") for folder in ("to", "expected"))
    assert [t.raw_data for t in found.graph.initializer] == [t.raw_data for t in expected.graph.initializer]
    assert {p.name: p.read_bytes() for p in copy.iterdir()} == before


def test_weights_in_several_files_keep_apart(tiny_onnx: Path, tmp_path: Path) -> None:
    import onnx

    copy = Path(shutil.copytree(tiny_onnx, tmp_path / "several"))
    graph = onnx.load(copy / "model.onnx", load_external_data=False)
    tensor = next(t for t in graph.graph.initializer if t.external_data)
    del tensor.external_data[:]
    tensor.external_data.add(key="location", value="a.bin")
    onnx.save(graph, copy / "model.onnx")
    (copy / "a.bin").write_bytes(bytes(4 * int(np.prod(tensor.dims))))
    _, names = materialized(str(copy), tmp_path / "to")
    assert names == {p.name for p in tiny_onnx.iterdir()} | {"model.onnx.1.data"}
    found = {t.name: t.raw_data for t in onnx.load(tmp_path / "to" / "model.onnx").graph.initializer}
    assert found[tensor.name] == (copy / "a.bin").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head_size": None}, "None as model.decoder.head_size"),
        ({"head_size": "64"}, "64 as model.decoder.head_size"),
        ({"session_options": []}, "session_options that is no object"),
    ],
)
def test_onnx_folder_whose_config_lacks_what_passes_read_is_refused(
    tiny_onnx: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    copy = Path(shutil.copytree(tiny_onnx, tmp_path / "lacking"))
    config = json.loads((copy / "genai_config.json").read_text())
    config["model"]["decoder"] |= change
    (copy / "genai_config.json").write_text(json.dumps(config))
    with pytest.raises(SourceError, match=message):
        resolve(str(copy))


def test_missing_shard_is_named(tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]) -> None:
    checkpoint = make_tiny_checkpoint(tmp_path / "sharded", max_shard_size="100KB")
    assert resolve(str(checkpoint)).kind == "checkpoint"
    sorted(checkpoint.glob("*.safetensors"))[0].unlink()
    with pytest.raises(SourceError, match="weight files are missing: model-00001"):
        resolve(str(checkpoint))


def test_pickled_weights_are_refused_with_the_reason(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(SourceError, match="loading a pickle can run any code"):
        resolve(str(folder))


def test_unknown_architecture_names_the_nearest(folder: Path) -> None:
    with pytest.raises(SourceError, match="Did you mean 'MistralForCausalLM'"):
        resolve(str(edit_config(folder, architectures=["MixtralForCausalLM"])))


def test_quantized_checkpoint_without_a_reader_is_refused(folder: Path) -> None:
    with pytest.raises(SourceError, match=r"quantized already \(hqq\)"):
        resolve(str(edit_config(folder, quantization_config={"quant_method": "hqq"})))


def test_own_code_is_refused_unless_trusted(folder: Path) -> None:
    edit_config(folder, model_type="my_own", auto_map={"AutoModelForCausalLM": "modeling.Mine"})
    with pytest.raises(SourceError, match="trust_remote_code: true"):
        resolve(str(folder))
    assert resolve(str(folder), trust_remote_code=True).trust_remote_code


def test_broken_config_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(SourceError, match=r"config\.json is not JSON"):
        resolve(str(folder))


def test_full_disk_is_found_before_any_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(SourceError, match=r"Not enough disk .* 0\.0 GB free"):
        resolve(str(folder))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("demo:smollm2-135m-instrukt", "Did you mean 'smollm2-135m-instruct'"),
        ("./nowhere", "There is no file, folder or demo './nowhere'"),
        ("nowhere/model.gguf", "There is no file, folder or demo"),
        ("justaname", "There is no file, folder or demo"),
    ],
)
def test_mistakes_name_what_fits(model: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        resolve(model)


def test_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"has no config\.json"):
        resolve(str(tmp_path))
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(SourceError, match="merge it into its base model"):
        resolve(str(tmp_path))


def test_revision_belongs_to_hub_models(folder: Path) -> None:
    with pytest.raises(SourceError, match="revision 'main' belongs to hub models"):
        resolve(str(folder), revision="main")


def test_demo_is_resolved_without_fetching() -> None:
    found = resolve("demo:smollm2-135m-instruct")
    assert (found.kind, found.name) == ("demo", "smollm2-135m-instruct")


def gguf(path: Path, architecture: str) -> Path:
    """A GGUF header: a string and an array before the field that counts."""

    def text(word: str) -> bytes:
        return struct.pack("<Q", len(word)) + word.encode()

    fields = text("general.name") + struct.pack("<I", 8) + text("a model")
    fields += text("list") + struct.pack("<IIQ", 9, 8, 2) + text("x") + text("yz")
    fields += text("count") + struct.pack("<II", 4, 7)
    fields += text("general.architecture") + struct.pack("<I", 8) + text(architecture)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 4) + fields)
    return path


def test_gguf_file_is_told_by_its_header(tmp_path: Path) -> None:
    found = resolve(str(gguf(tmp_path / "small.gguf", "qwen2")))
    assert (found.kind, found.name, found.architecture) == ("gguf", "small", "Qwen2ForCausalLM")
    assert found.config is None


def test_gguf_of_another_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"GGUF architecture 'llam4' .*Did you mean 'llama'"):
        resolve(str(gguf(tmp_path / "other.gguf", "llam4")))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip file, long enough to be read", b"GGUF\x03"])
def test_file_that_is_no_gguf_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "fake.gguf").write_bytes(content)
    with pytest.raises(SourceError, match="is not a GGUF file, or it is cut off"):
        resolve(str(tmp_path / "fake.gguf"))


def test_file_of_another_kind_is_refused(folder: Path) -> None:
    with pytest.raises(SourceError, match=r"not a GGUF file\. A model is"):
        resolve(str(folder / "model.safetensors"))


def test_every_gguf_architecture_can_be_exported() -> None:
    from olivine.passes.export.genai_builder import supported_architectures

    assert set(gguf_file.ARCHITECTURES.values()) <= set(supported_architectures())


def test_checks_do_not_load_torch_or_transformers(folder: Path) -> None:
    code = (
        "import sys; from olivine.passes.sources.source import resolve; resolve(sys.argv[1]);"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.demo
def test_demo_is_rotated_and_keeps_its_special_tokens() -> None:
    made = build(resolve("demo:smollm2-135m-instruct"), LANGUAGE.recipe([]), Cache(cache_root())).artifact
    assert made.properties == {"checkpoint", "rotated"}
    names = {p.name for p in made.files()}
    assert {"config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"} <= names
    config = json.loads((made.path / "config.json").read_text())
    generation = json.loads((made.path / "generation_config.json").read_text())
    assert config["tie_word_embeddings"] is False
    assert "quantization_config" not in config
    for known in (config, generation):
        assert (known["bos_token_id"], known["eos_token_id"], known["pad_token_id"]) == (1, 2, 2)
