"""Texts of a fine-tuning: from every kind of file, by templates, held out, cut into pieces."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olivine.evaluators.data.training_rows import PLAIN, Rows, hold_out, parse_template, read_rows, token_pieces
from olivine.passes.errors import UsageError

ROWS = [
    {"question": "What is olivine?", "answer": "A mineral, green"},
    {"question": "And\nperidot?", "answer": "A gem"},
]


def write(path: Path) -> Path:
    """The rows in the form that the file's name asks for."""
    if path.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(ROWS), path)
    elif path.suffix == ".csv":
        path.write_text('question,answer\nWhat is olivine?,"A mineral, green"\n"And\nperidot?",A gem\n')
    else:
        path.write_text("\n".join(map(json.dumps, ROWS)) if path.suffix == ".jsonl" else json.dumps(ROWS))
    return path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.parquet"])
def test_every_kind_of_file_gives_the_same_texts(tmp_path: Path, name: str) -> None:
    texts = read_rows(str(write(tmp_path / name))).texts("Q: {question}\\nA: {answer}")
    assert texts == ["Q: What is olivine?\nA: A mineral, green", "Q: And\nperidot?\nA: A gem"]


def test_plain_text_is_a_row_a_paragraph(tmp_path: Path) -> None:
    path = tmp_path / "prose.txt"
    path.write_text("One.\nStill one.\n\n\n\nTwo.")
    assert read_rows(str(path)).texts(PLAIN) == ["One.\nStill one.", "Two."]


def test_a_column_that_the_data_lacks_is_named_with_those_it_has(tmp_path: Path) -> None:
    rows = read_rows(str(write(tmp_path / "rows.csv")))
    with pytest.raises(
        UsageError, match=r"rows.csv has no column 'anwser'\. Did you mean 'answer'\?.*question, answer"
    ):
        rows.texts("{question} {anwser}")
    with pytest.raises(UsageError, match="row 2 has no 'b'; it has a"):
        Rows("some", [{"a": 1, "b": 2}, {"a": 1}]).texts("{a}{b}")
    with pytest.raises(UsageError, match="has no rows"):
        Rows("none", []).texts(PLAIN)


@pytest.mark.parametrize(
    ("template", "message"),
    [("no column", "names no column"), ("{a", "a brace that is meant"), ("{a!r}", "and nothing else"), ("{}", "else")],
)
def test_templates_that_can_not_be_meant_are_refused(template: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_template(template)


def test_doubled_braces_are_braces() -> None:
    assert Rows("some", [{"a": "{x}"}]).texts("{{{a}}}") == ["{{x}}"]


CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]


def render(messages: Sequence[Mapping[str, Any]]) -> str:
    return "".join(f"<{message['role']}>{message['content']}" for message in messages)


def test_chat_messages_go_through_the_chat_template_without_naming_their_column(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    path.write_text("\n".join(json.dumps({"messages": CHAT, "id": n}) for n in range(2)))
    rows = read_rows(str(path))
    assert rows.texts(PLAIN, render) == ["<user>Hi<assistant>Ho"] * 2
    assert rows.texts("{id}: {messages}", render) == ["0: <user>Hi<assistant>Ho", "1: <user>Hi<assistant>Ho"]


def test_values_that_are_no_text_are_not_learned_as_python_writes_them() -> None:
    with pytest.raises(UsageError, match=r"some: row 2 holds .* which is no text"):
        Rows("some", [{"text": "a"}, {"text": ["a", "b"]}]).texts(PLAIN)
    assert Rows("some", [{"a": 1, "b": 2.5}]).texts("{a} {b}") == ["1 2.5"]


def test_a_file_that_is_not_there_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        read_rows(str(tmp_path / "none.jsonl"))


@given(st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=30), st.floats(0.01, 0.9), st.integers(0, 3))
def test_no_held_out_text_is_trained_on(texts: list[str], share: float, seed: int) -> None:
    if len(set(texts)) < 2:
        with pytest.raises(UsageError, match="only 1 text"):
            hold_out(texts, share, seed)
        return
    train, apart = hold_out(texts, share, seed)
    assert sorted([*train, *apart]) == sorted(texts)
    assert not set(train) & set(apart)
    assert train
    assert apart


class Letters:
    """A tokenizer of one token a letter."""

    bos_token_id, eos_token_id = 1, 0

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]


def test_texts_are_cut_into_pieces_and_end_with_the_end_token() -> None:
    tokenizer: Any = Letters()
    assert token_pieces(["abcd", "xyz"], tokenizer, 4) == [(0, [97, 98, 99, 100]), (1, [120, 121, 122, 0])]


def test_a_text_that_brings_its_own_start_token_has_one() -> None:
    tokenizer: Any = Letters()
    assert token_pieces(["\x01\x01ab", "\x01cd"], tokenizer, 9) == [(0, [1, 97, 98, 0]), (1, [1, 99, 100, 0])]
