"""Prompts of one's own: what a file may hold, and one clear message for what it may not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from olivine.evaluators.data.tokenizing import tokenize
from olivine.evaluators.scenario.prompts import digest_of_prompts, read_prompts
from olivine.evaluators.scenario.scenario import Scenario
from olivine.passes.errors import UsageError

ASKED = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


def scenario(file: Path) -> Scenario:
    return Scenario(context=64, new_tokens=4, prompts=str(file))


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_paragraphs_of_a_text_are_prompts_in_the_models_template(tiny_onnx: Path, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("the old boat\n\n\nbread\n")
    prompts = read_prompts(scenario(tmp_path / "p.txt"), tiny_onnx)
    assert [prompt.place for prompt in prompts] == ["p.txt: paragraph 2", "p.txt: paragraph 1"], "the shortest first"
    assert prompts[1].ids == tokenize(ASKED.format("the old boat"), tiny_onnx).ids


@pytest.mark.parametrize("between", ["\n \n", "\n\t\n\n", "\r\n  \r\n"])
def test_a_line_of_spaces_alone_lies_between_two_prompts(between: str, tiny_onnx: Path, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes(f"the old boat\nlay there{between}bread".encode())
    prompts = read_prompts(scenario(tmp_path / "p.txt"), tiny_onnx)
    asked = [tokenize(ASKED.format(text), tiny_onnx).ids for text in ("bread", "the old boat\nlay there")]
    assert [prompt.ids for prompt in prompts] == asked


ANSWER = {"role": "assistant", "content": "a recorded answer"}


@pytest.mark.parametrize(
    "messages",
    [
        [ANSWER],
        [ANSWER, ANSWER],
        [{"role": "user", "content": " "}, ANSWER],
        [{"role": "user", "content": None}],
        [{"from": "gpt", "value": "an answer"}],
    ],
)
def test_a_conversation_that_asks_nothing_is_refused_by_its_row(
    messages: list[object], tiny_onnx: Path, tmp_path: Path
) -> None:
    file = lines(tmp_path / "p.jsonl", {"messages": [{"role": "user", "content": "a"}]}, {"messages": messages})
    for read in (lambda: read_prompts(scenario(file), tiny_onnx), lambda: digest_of_prompts(file)):
        with pytest.raises(UsageError, match=r"p.jsonl: line 2: 'messages': no message asks for an answer"):
            read()


def test_chat_messages_are_asked_for_their_next_answer(tiny_onnx: Path, tmp_path: Path) -> None:
    user = {"role": "user", "content": "bread"}
    answered = {"messages": [user, {"role": "assistant", "content": "a recorded answer"}]}
    prompts = read_prompts(scenario(lines(tmp_path / "p.jsonl", {"messages": [user]}, answered)), tiny_onnx)
    assert {prompt.ids for prompt in prompts} == {tokenize(ASKED.format("bread"), tiny_onnx).ids}


def test_without_a_template_a_text_is_read_as_it_is_and_messages_are_refused(bigram_tokenizer: Path) -> None:
    folder = bigram_tokenizer
    (folder / "p.txt").write_text("bread")
    (prompt,) = read_prompts(scenario(folder / "p.txt"), folder)
    text = tokenize("bread", folder)
    assert prompt.ids == (*text.bos, *text.ids)
    turns = [{"role": role, "content": "a"} for role in ("user", "assistant", "user")]
    with pytest.raises(UsageError, match=r"entry 1: 'messages': .*no chat template"):
        read_prompts(scenario(lines(folder / "p.jsonl", {"messages": turns})), folder)


@pytest.fixture
def bigram_tokenizer(tiny_onnx: Path, tmp_path: Path) -> Path:
    """A folder with a tokenizer, and no chat template."""
    (tmp_path / "tokenizer.json").write_bytes((tiny_onnx / "tokenizer.json").read_bytes())
    return tmp_path


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": 5}, "p.jsonl: line 2: 'text' holds 5, which is no text"),
        ({"text": " "}, "p.jsonl: line 2: 'text' is empty"),
        ({"text": None}, "p.jsonl: line 2: 'text' is empty"),
        ({"txt": "a"}, "p.jsonl: line 2 has no column 'text'. Did you mean 'txt'"),
        ({"messages": [{"role": "user"}]}, "p.jsonl: line 2: 'messages' holds messages without role and content"),
        (["a"], "p.jsonl: line 2 is no object"),
        ({"text": "bread " * 60}, "p.jsonl: line 2: the prompt has .* does not fit the context of 64"),
    ],
)
def test_a_bad_row_is_named(row: object, message: str, tiny_onnx: Path, tmp_path: Path) -> None:
    file = lines(tmp_path / "p.jsonl", {"text": "sound"}, row)
    with pytest.raises(UsageError, match=message):
        read_prompts(scenario(file), tiny_onnx)


def test_a_file_that_is_not_there_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file"):
        digest_of_prompts(tmp_path / "p.txt")
    (tmp_path / "p.txt").write_text("\n\n")
    with pytest.raises(UsageError, match="holds no prompt"):
        digest_of_prompts(tmp_path / "p.txt")


def test_the_digest_is_of_the_words_whatever_the_file(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("the old boat\n\nbread")
    rows = [{"text": "the old boat"}, {"messages": [{"role": "user", "content": "bread"}]}]
    assert digest_of_prompts(tmp_path / "p.txt") == digest_of_prompts(lines(tmp_path / "p.jsonl", *rows))
    assert digest_of_prompts(tmp_path / "p.txt") != digest_of_prompts(lines(tmp_path / "q.jsonl", *rows[:1]))
