from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import pytest
from tiny import ARCHITECTURES

from olivine.passes.errors import BuildFailed, PassRefused
from olivine.passes.export import genai_builder
from olivine.passes.export.deferred import DeferredFile, WrittenInPlace
from olivine.passes.export.export import Export
from olivine.passes.export.fusion_levels import FUSION_LEVELS
from olivine.passes.export.genai_builder import supported_architectures
from olivine.passes.store.digests import sha256_file

TEXT = "The price of bread, and the bank of the river in the green winter."


def exported(checkpoint: Path, to: Path, **parameters: str) -> Path:
    to.mkdir()
    Export(**parameters).apply(checkpoint, to)
    return to


def genai_logits(folder: Path) -> tuple[np.ndarray, list[int], list[int]]:
    """Logits of a prompt, its tokens, and the tokens after three steps of greedy decoding."""
    import onnxruntime_genai as og

    model = og.Model(str(folder))
    ids = og.Tokenizer(model).encode(TEXT)
    parameters = og.GeneratorParams(model)
    parameters.set_search_options(max_length=len(ids) + 4, do_sample=False)
    generator = og.Generator(model, parameters)
    generator.append_tokens(ids)
    logits = np.array(generator.get_output("logits"))
    for _ in range(3):
        generator.generate_next_token()
    return logits, [int(i) for i in ids], [int(i) for i in generator.get_sequence(0)]


def transformers_logits(checkpoint: Path, ids: list[int]) -> np.ndarray:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    with torch.no_grad():
        return np.asarray(model(torch.tensor([ids])).logits.numpy())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_export_agrees_with_transformers(
    architecture: str, tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]
) -> None:
    from transformers import AutoTokenizer

    checkpoint = make_tiny_checkpoint(tmp_path / "checkpoint", architecture)
    logits, ids, sequence = genai_logits(exported(checkpoint, tmp_path / "onnx"))
    assert ids == AutoTokenizer.from_pretrained(checkpoint)(TEXT).input_ids
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(logits, transformers_logits(checkpoint, ids), atol=1e-3)
    assert len(sequence) > len(ids)


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
#: As Phi-4-mini has it; ONNX Runtime takes rotated dimensions in eights.
LONG = {"rope_type": "longrope", "partial_rotary_factor": 0.75, "short_factor": [1.0] * 24, "long_factor": [2.0] * 24}


@pytest.mark.parametrize(("architecture", "rope"), [("llama", LLAMA3), ("phi3", LONG)])
@pytest.mark.parametrize("trained_on", [16, 128], ids=["text is longer", "text is shorter"])
def test_scaled_rope_agrees_with_transformers(
    architecture: str,
    rope: dict[str, object],
    trained_on: int,
    tmp_path: Path,
    make_tiny_checkpoint: Callable[..., Path],
) -> None:
    more = {
        "rope_parameters": {**rope, "rope_theta": 10_000.0, "original_max_position_embeddings": trained_on},
        "original_max_position_embeddings": trained_on,
    }
    checkpoint = make_tiny_checkpoint(tmp_path / "checkpoint", architecture, hidden=256, more=more)
    logits, ids, _ = genai_logits(exported(checkpoint, tmp_path / "onnx"))
    assert 16 < len(ids) < 120
    np.testing.assert_allclose(logits, transformers_logits(checkpoint, ids), atol=1e-3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_streamed_weights_are_the_builders_own_bytes(
    architecture: str, tmp_path: Path, make_tiny_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = make_tiny_checkpoint(tmp_path / "checkpoint", architecture, tied=False, max_shard_size="100KB")
    read: list[str] = []
    plain, save = DeferredFile._read, onnx_ir.save
    monkeypatch.setattr(DeferredFile, "_read", lambda self, name: (read.append(name), plain(self, name))[1])

    def saved(*given: object, **options: object) -> None:
        assert not [name for name in read if not name.endswith("bias")]  # qwen2's are looked at
        save(*given, **options)

    monkeypatch.setattr(onnx_ir, "save", saved)
    streamed = exported(checkpoint, tmp_path / "streamed", fusion_level="full")
    assert read
    monkeypatch.setattr(genai_builder, "_weights_stay_in_files", contextlib.nullcontext)
    monkeypatch.setattr(onnx_ir, "save", save)
    whole = exported(checkpoint, tmp_path / "whole", fusion_level="full")
    assert {p.name: sha256_file(p) for p in streamed.iterdir()} == {p.name: sha256_file(p) for p in whole.iterdir()}


def test_a_checkpoint_that_does_not_stream_is_loaded_whole_and_that_is_said(
    tiny_llama: Path, tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(self: DeferredFile, name: str) -> None:
        raise WrittenInPlace("add_ writes into a tensor")

    monkeypatch.setattr(DeferredFile, "_read", refused)
    folder = exported(tiny_llama, tmp_path / "onnx")
    assert {p.name: sha256_file(p) for p in folder.iterdir()} == {p.name: sha256_file(p) for p in tiny_onnx.iterdir()}
    assert "loads it whole" in caplog.text
    assert "add_ writes into a tensor" in caplog.text


def test_head_of_its_own_is_exported(tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]) -> None:
    checkpoint = make_tiny_checkpoint(tmp_path / "checkpoint", tied=False)
    logits, ids, _ = genai_logits(exported(checkpoint, tmp_path / "onnx"))
    np.testing.assert_allclose(logits, transformers_logits(checkpoint, ids), atol=1e-3)


def test_same_recipe_gives_the_same_bytes(tiny_llama: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    again = exported(tiny_llama, tmp_path / "again")
    names = sorted(p.name for p in tiny_onnx.iterdir())
    assert names == sorted(p.name for p in again.iterdir())
    assert {n: sha256_file(tiny_onnx / n) for n in names} == {n: sha256_file(again / n) for n in names}


def test_graph_is_stamped_with_a_version_and_no_commit(tiny_onnx: Path) -> None:
    stamp = onnx.load(tiny_onnx / "model.onnx", load_external_data=False).producer_version
    assert stamp
    assert "+" not in stamp


def test_input_checkpoint_is_unchanged(tiny_llama: Path, tmp_path: Path) -> None:
    before = {p.name: sha256_file(p) for p in tiny_llama.iterdir()}
    exported(tiny_llama, tmp_path / "onnx")
    assert {p.name: sha256_file(p) for p in tiny_llama.iterdir()} == before


@pytest.mark.parametrize(("level", "per_layer"), [("none", 7), ("qkv", 5), ("full", 4)])
def test_fusion_level_merges_projections_and_keeps_logits(
    level: str, per_layer: int, tiny_llama: Path, tmp_path: Path
) -> None:
    folder = exported(tiny_llama, tmp_path / "onnx", fusion_level=level)
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    assert sum(node.op_type == "MatMul" for node in graph.node) == 2 * per_layer + 1
    logits, ids, _ = genai_logits(folder)
    np.testing.assert_allclose(logits, transformers_logits(tiny_llama, ids), atol=1e-3)


def test_every_fusion_level_is_an_axis_value() -> None:
    axis = next(axis for axis in Export.axes if axis.name == "fusion_level")
    assert set(axis.values) == set(FUSION_LEVELS)


def test_builder_is_quiet(tiny_llama: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    exported(tiny_llama, tmp_path / "onnx")
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


def test_unknown_architecture_is_refused_with_the_nearest(tiny_llama: Path, tmp_path: Path) -> None:
    config = json.loads((tiny_llama / "config.json").read_text()) | {"architectures": ["Lama2ForCausalLM"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(PassRefused, match="Did you mean 'LlamaForCausalLM'"):
        Export().apply(tmp_path, tmp_path / "onnx")


def test_builder_failure_carries_its_last_lines(tiny_llama: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    for file in tiny_llama.iterdir():
        if file.suffix != ".safetensors":
            (checkpoint / file.name).write_bytes(file.read_bytes())
    with pytest.raises(BuildFailed, match=r"Its last lines:\n  .*option"):
        exported(checkpoint, tmp_path / "onnx")


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_on_the_cpu_is_refused_with_the_reason(precision: str, tmp_path: Path) -> None:
    with pytest.raises(PassRefused, match="What runs: fp32"):
        Export(precision=precision).apply(tmp_path, tmp_path)


def test_integer_precision_exports_the_float_graph_below_it() -> None:
    choice = {"provider": "cpu", "precision": "int4", "fusion_level": "qkv"}
    assert Export.from_choice(choice) == Export("fp32", "cpu", "qkv")
    assert Export.from_choice(choice | {"provider": "cuda"}) == Export("fp16", "cuda", "qkv")


def test_openvino_takes_the_cpu_graph_under_its_own_name(tiny_llama: Path, tmp_path: Path) -> None:
    folder = exported(tiny_llama, tmp_path / "onnx", provider="openvino")
    options = json.loads((folder / "genai_config.json").read_text())["model"]["decoder"]["session_options"]
    assert [list(entry) for entry in options["provider_options"]] == [["OpenVINO"]]


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_cuda_graph_is_built_without_a_gpu(precision: str, tiny_llama: Path, tmp_path: Path) -> None:
    folder = exported(tiny_llama, tmp_path / "onnx", provider="cuda", precision=precision)
    options = json.loads((folder / "genai_config.json").read_text())["model"]["decoder"]["session_options"]
    assert "cuda" in options["provider_options"][0]


def test_architectures_are_read_from_the_builder() -> None:
    known = supported_architectures()
    assert {"LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "Phi3ForCausalLM"} <= set(known)
    assert {"Gemma3ForCausalLM", "MistralForCausalLM", "SmolLM3ForCausalLM"} <= set(known)
    assert "WhisperForConditionalGeneration" not in known
