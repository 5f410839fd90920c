"""What is missing, left over, renamed or of another shape in a checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from olivine.passes.errors import SourceError
from olivine.passes.sources.source import resolve

Weights = dict[str, torch.Tensor]
UP = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def changed(tiny_llama: Path, tmp_path: Path) -> Callable[[Callable[[Weights], Weights]], Path]:
    """The tiny Llama with other weights."""

    def change(edit: Callable[[Weights], Weights]) -> Path:
        folder = Path(shutil.copytree(tiny_llama, tmp_path / "changed"))
        weights = edit(load_file(folder / "model.safetensors"))
        plain = {name: value.contiguous().clone() for name, value in weights.items()}
        save_file(plain, folder / "model.safetensors", {"format": "pt"})
        return folder

    return change


Change = Callable[[Callable[[Weights], Weights]], Path]


def laid_out(folder: Path, to: Path) -> Weights:
    to.mkdir()
    resolve(str(folder)).materialize(to)
    return {name: value for file in sorted(to.glob("*.safetensors")) for name, value in load_file(file).items()}


def refused(folder: Path, to: Path, message: str) -> None:
    to.mkdir()
    with pytest.raises(SourceError, match=message):
        resolve(str(folder)).materialize(to)


def test_a_missing_weight_is_named_and_not_made_up(changed: Change, tmp_path: Path) -> None:
    folder = changed(lambda weights: {name: value for name, value in weights.items() if name != UP})
    refused(folder, tmp_path / "to", rf"1 missing \({UP}\)\. Weights that are missing would be random")


def test_an_untied_head_that_is_missing_is_no_tied_one(
    tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]
) -> None:
    folder = make_tiny_checkpoint(tmp_path / "untied", tied=False)
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    refused(folder, tmp_path / "to", r"1 missing \(lm_head\.weight\)")


def test_a_weight_that_the_architecture_has_not_is_listed(changed: Change, tmp_path: Path) -> None:
    bias = "model.layers.0.self_attn.q_proj.bias"
    refused(changed(lambda weights: weights | {bias: torch.zeros(64)}), tmp_path / "to", rf"1 left over \({bias}\)")


def test_a_weight_of_another_shape_is_listed_with_both(changed: Change, tmp_path: Path) -> None:
    folder = changed(lambda weights: weights | {UP: torch.zeros(64, 64)})
    refused(folder, tmp_path / "to", rf"of another shape \({UP}: \[64, 64\] instead of \[128, 64\]\)")


def test_codes_are_no_weights(changed: Change, tmp_path: Path) -> None:
    folder = changed(lambda weights: weights | {UP: weights[UP].to(torch.float8_e4m3fn)})
    refused(folder, tmp_path / "to", rf"no floats: {UP} \(F8_E4M3\)")


def test_an_adapter_that_was_not_merged_is_told_as_one(changed: Change, tmp_path: Path) -> None:
    def unmerged(weights: Weights) -> Weights:
        name = "model.layers.0.self_attn.q_proj"
        plain = {stored: value for stored, value in weights.items() if stored != f"{name}.weight"}
        lora = {
            f"{name}.base_layer.weight": weights[f"{name}.weight"],
            f"{name}.lora_A.default.weight": torch.ones(4, 64),
        }
        return {f"base_model.model.{stored}": value for stored, value in (plain | lora).items()}

    refused(changed(unmerged), tmp_path / "to", "merge it into its base model first")


def test_an_adapter_without_its_base_is_refused_before_any_work(tiny_llama: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_llama, tmp_path / "adapter"))
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(SourceError, match="merge it into its base model first"):
        resolve(str(folder))


@pytest.mark.parametrize(
    "name",
    [
        "module.{}",
        "_orig_mod.{}",
        "module._orig_mod.{}",
        "model.{}",
        "base_model.model.{}",
        "base_model.model._fsdp_wrapped_module.{}",
    ],
)
def test_prefixes_of_training_tools_are_taken_off_and_that_is_said(
    name: str, changed: Change, tiny_llama: Path, tmp_path: Path
) -> None:
    folder = changed(lambda weights: {name.format(stored): value for stored, value in weights.items()})
    found = laid_out(folder, tmp_path / "to")
    expected = load_file(tiny_llama / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[stored], expected[stored]) for stored in expected)
    (note,) = resolve(str(folder)).notes
    first = min(expected)
    assert f"'{name.format(first)}' is read as '{first}'" in note
    assert resolve(str(folder)).key != resolve(str(tiny_llama)).key


def test_compiled_layers_lose_the_name_of_their_wrapper(changed: Change, tiny_llama: Path, tmp_path: Path) -> None:
    folder = changed(
        lambda weights: {name.replace("layers.0.", "layers.0._orig_mod."): value for name, value in weights.items()}
    )
    assert laid_out(folder, tmp_path / "to").keys() == load_file(tiny_llama / "model.safetensors").keys()


def test_an_unchanged_checkpoint_has_nothing_to_say(tiny_llama: Path) -> None:
    assert resolve(str(tiny_llama)).notes == ()


@pytest.fixture
def sharded(tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]) -> Path:
    """A checkpoint in shards that has lost their index."""
    folder = make_tiny_checkpoint(tmp_path / "sharded", max_shard_size="100KB")
    (folder / "model.safetensors.index.json").unlink()
    return folder


def test_shards_without_their_index_get_one(sharded: Path, tmp_path: Path) -> None:
    found = laid_out(sharded, tmp_path / "to")
    index = json.loads((tmp_path / "to" / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == found.keys()
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in found.values())


def test_shards_that_the_others_promise_are_named(sharded: Path) -> None:
    first, *others = sorted(sharded.glob("*.safetensors"))
    first.unlink()
    with pytest.raises(SourceError, match=rf"1 of {len(others) + 1} weight files are missing, .* index: {first.name}"):
        resolve(str(sharded))


def test_weight_files_that_nothing_joins_are_refused(sharded: Path) -> None:
    for number, file in enumerate(sorted(sharded.glob("*.safetensors"))):
        file.rename(sharded / f"part{number}.safetensors")
    with pytest.raises(SourceError, match=r"no model\.safetensors\.index\.json that says which tensor is in which"):
        resolve(str(sharded))


def test_one_weight_file_is_found_whatever_it_is_called(tiny_llama: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_llama, tmp_path / "other"))
    (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
    assert laid_out(folder, tmp_path / "to").keys() == load_file(tiny_llama / "model.safetensors").keys()


def test_another_formats_names_are_told_as_such(changed: Change, tmp_path: Path) -> None:
    folder = changed(lambda weights: {"layers.0.attention.wq.weight": weights[UP]})
    refused(folder, tmp_path / "to", "names of Mistral's and Meta's own format")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_pointers_of_git_lfs_are_told_with_the_cure(name: str, tiny_llama: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_llama, tmp_path / "pointer"))
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n")
    with pytest.raises(SourceError, match=rf"{name} is not there, .* 'git lfs pull'"):
        resolve(str(folder))


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("share", [0.0, 0.7])
def test_a_file_that_was_cut_off_is_named_before_any_work(
    name: str, share: float, tiny_llama: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_llama, tmp_path / "cut"))
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(SourceError, match=rf"{name} is cut off, or no JSON"):
        resolve(str(folder))


def test_a_download_that_has_not_ended_is_told_as_one(tiny_llama: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_llama, tmp_path / "half"))
    (folder / "model.safetensors").rename(folder / "model.safetensors.part")
    with pytest.raises(SourceError, match=r"model\.safetensors\.part is a download that has not ended"):
        resolve(str(folder))


def test_a_checkpoint_without_a_tokenizer_is_refused_before_any_work(tiny_llama: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_llama, tmp_path / "mute"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(SourceError, match=r"has no tokenizer \(tokenizer\.json"):
        resolve(str(folder))


def test_an_encoder_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    import transformers

    from olivine.passes.graphs.encoder import export_encoder

    config = transformers.BertConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("pooler.dense.weight")  # no output of the graph reads it
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    export_encoder(tmp_path, tmp_path / "model.onnx")
    lost = next(name for name in weights if "query.weight" in name)
    weights.pop(lost)
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(SourceError, match=rf"1 missing \({lost}\)"):
        export_encoder(tmp_path, tmp_path / "model.onnx")
