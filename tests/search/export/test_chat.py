"""``olivine chat`` on a tiny model: what it says is noise, how it says it is not."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from olivine.passes.errors import OlivineError, UsageError
from olivine.search.export.chat import Answer, chat, load


def talk(folder: Path, prompt: str | None, tokens: int = 8) -> str:
    console = Console(file=io.StringIO(), width=120)
    chat(folder, prompt, tokens, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_one_prompt_gives_one_answer_with_its_rates(tiny_onnx: Path) -> None:
    said = talk(tiny_onnx, "Where is the boat?")
    assert re.search(r"\d tokens: prompt of \d+ tokens in [\d.]+ s", said)


def test_a_conversation_ends_with_an_empty_line(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = iter(["Where is the boat?", "And the river?", ""])
    monkeypatch.setattr("builtins.input", lambda *_: next(lines))
    assert talk(tiny_onnx, None).count("tokens: prompt of") == 2


def test_a_conversation_ends_with_the_input(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(*_: object) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", ended)
    assert "tokens: prompt of" not in talk(tiny_onnx, None)


def test_the_chat_template_and_earlier_turns_are_part_of_the_prompt(tiny_onnx: Path) -> None:
    conversation = load(tiny_onnx)
    assert conversation.template is not None
    first, second = Answer(), Answer()
    assert "".join(conversation.ask("boat", 4, first)) == first.text
    list(conversation.ask("boat", 4, second))
    assert first.prompt_tokens > len(conversation.tokenizer.encode("boat"))
    assert second.prompt_tokens > first.prompt_tokens
    assert [message["role"] for message in conversation.messages] == ["user", "assistant"] * 2


def test_no_more_tokens_than_asked_for(tiny_onnx: Path) -> None:
    answer = Answer()
    list(load(tiny_onnx).ask("boat", 3, answer))
    assert 1 <= answer.tokens <= 3


def test_old_turns_make_room_when_the_context_is_full(tiny_onnx: Path) -> None:
    conversation = load(tiny_onnx)
    conversation.messages += [{"role": r, "content": "boat " * 60} for r in ("user", "assistant", "user", "assistant")]
    list(conversation.ask("river", 2, Answer()))
    assert conversation.messages[-2] == {"role": "user", "content": "river"}
    assert len(conversation.messages) < 6


def test_a_prompt_longer_than_the_context_is_refused(tiny_onnx: Path) -> None:
    with pytest.raises(UsageError, match="the model takes 256"):
        talk(tiny_onnx, "boat " * 400)


def test_a_conversation_ends_at_the_context_that_the_folder_names(tiny_onnx: Path, tmp_path: Path) -> None:
    folder = tmp_path / "short"
    shutil.copytree(tiny_onnx, folder)
    config = json.loads((folder / "genai_config.json").read_text())
    config["search"]["max_length"] = 40
    (folder / "genai_config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="the model takes 40 with its answer"):
        talk(folder, "boat " * 40)


def test_without_a_template_the_words_go_in_as_they_are(tiny_onnx: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    shutil.copytree(tiny_onnx, folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    conversation, answer = load(folder), Answer()
    assert conversation.template is None
    list(conversation.ask("boat", 2, answer))
    assert answer.prompt_tokens == len(conversation.tokenizer.encode("boat"))


def test_folders_and_prompts_that_can_not_be_are_refused(tiny_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no genai_config"):
        talk(tmp_path, "boat")
    with pytest.raises(UsageError, match="is no folder"):
        talk(tmp_path / "nowhere", "boat")
    with pytest.raises(UsageError, match="prompt is empty"):
        talk(tiny_onnx, "  ")
    with pytest.raises(UsageError, match="at least 1"):
        talk(tiny_onnx, "boat", tokens=0)


def test_a_damaged_model_is_one_clear_error(tiny_onnx: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(tiny_onnx, folder)
    (folder / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(OlivineError, match="does not load"):
        talk(folder, "boat")


def test_a_template_that_calls_methods_of_strings_works(tiny_onnx: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_onnx, tmp_path / "methods"))
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m['content'].replace('/think', '').rstrip() + eos_token }}{% endfor %}"
    )
    conversation, answer = load(folder), Answer()
    list(conversation.ask("boat /think", 2, answer))
    assert answer.prompt_tokens == len(conversation.tokenizer.encode("boat<|im_end|>"))


def test_a_template_that_refuses_is_one_clear_error(tiny_onnx: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_onnx, tmp_path / "refuses"))
    (folder / "chat_template.jinja").write_text("{{ raise_exception('only system turns') }}")
    with pytest.raises(UsageError, match=r"chat_template\.jinja can't be rendered: only system turns"):
        talk(folder, "boat")
