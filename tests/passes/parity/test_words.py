"""The tokenizer, the chat template and the end-of-text tokens that are deployed, beside transformers'."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from olivine.passes.parity.words import differing_words


@pytest.fixture
def folder(tiny_onnx: Path, tmp_path: Path) -> Path:
    """An export that a test may change."""
    return Path(shutil.copytree(tiny_onnx, tmp_path / "onnx"))


def words(checkpoint: Path, folder: Path) -> tuple[str, ...]:
    return differing_words(checkpoint, folder, AutoTokenizer.from_pretrained(checkpoint))


def test_an_export_reads_and_writes_as_transformers_does(tiny_llama: Path, folder: Path) -> None:
    assert words(tiny_llama, folder) == ()


def test_texts_that_are_cut_otherwise_are_shown(tiny_llama: Path, folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:1]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (said,) = words(tiny_llama, folder)
    assert "otherwise in ONNX Runtime GenAI: 'The bank of the river was green and wide" in said


def test_a_template_that_genai_can_not_render_is_told(tiny_llama: Path, folder: Path) -> None:
    template = "{% for m in messages %}{{ m['content'].replace('/think', '').rstrip() }}{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    said = words(tiny_llama, folder)
    assert said
    assert all(line.startswith("the chat template of ") and line.endswith("renders it by jinja2") for line in said)


def test_end_of_text_tokens_that_are_not_deployed_are_told(tiny_llama: Path, folder: Path, tmp_path: Path) -> None:
    checkpoint = Path(shutil.copytree(tiny_llama, tmp_path / "checkpoint"))
    (checkpoint / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 7]}))
    assert words(checkpoint, folder) == (
        "the end-of-text tokens [7] of generation_config.json are not in genai_config.json",
    )


def test_end_of_text_tokens_of_the_generation_config_are_deployed(tiny_llama: Path, tmp_path: Path) -> None:
    from olivine.passes.export.export import Export

    checkpoint = Path(shutil.copytree(tiny_llama, tmp_path / "checkpoint"))
    (checkpoint / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 7], "bos_token_id": 0}))
    (tmp_path / "onnx").mkdir()
    Export().apply(checkpoint, tmp_path / "onnx")
    config = json.loads((tmp_path / "onnx" / "genai_config.json").read_text())
    assert set(config["model"]["eos_token_id"]) == {1, 7}
    assert words(checkpoint, tmp_path / "onnx") == ()
