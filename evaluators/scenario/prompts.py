"""Prompts of a scenario's file: texts or chat messages, put through a model's chat template and cut into tokens."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olivine.evaluators.data.rows import TABLES, TEXT, Row, read_table
from olivine.evaluators.data.text_file import file_kind, read_text
from olivine.evaluators.data.text_source import as_text, text_column
from olivine.evaluators.data.tokenizing import ChatRenderer, join_messages, of_share_gpt, tokenize
from olivine.evaluators.scenario.scenario import Scenario, prompts_file
from olivine.passes.errors import UsageError
from olivine.passes.sources.chat_template import ChatTemplate, read_template

#: Answers below this tell too little of prompts such as theirs.
LEAST_ANSWERS = 4
#: And above this they take more time than they are worth.
MOST_ANSWERS = 12
#: Lines between two prompts of a text: blank ones, which may hold spaces.
_BLANK = re.compile(r"\n(?:[^\S\n]*\n)+")


@dataclass(frozen=True)
class Prompt:
    """One prompt as a model reads it.

    Attributes:
        place: in its file.
        ids: token ids, those around the words included.
    """

    place: str
    ids: tuple[int, ...]


def digest_of_prompts(file: Path) -> str:
    """SHA-256 over a file's prompts, so that a study tells when they change.

    Raises:
        UsageError: when the file can't be read, or a row of it is no prompt.
    """
    content = hashlib.sha256()
    for _, text in _texts(file, _words):
        content.update(hashlib.sha256(text.encode()).digest())
    return content.hexdigest()


def count_prompts(scenario: Scenario) -> int:
    """The number of a scenario's prompts; 0 where they are random tokens.

    Raises:
        UsageError: when their file can't be read, or a row of it is no prompt.
    """
    return sum(1 for _ in _texts(prompts_file(scenario.prompts), _words)) if scenario.prompts else 0


def read_prompts(scenario: Scenario, folder: Path) -> list[Prompt]:
    """The prompts of a scenario's file, the shortest first.

    Args:
        scenario: that names the file.
        folder: model folder, whose chat template and tokenizer they go through.

    Raises:
        UsageError: naming the row that is no prompt, or does not fit the context with its answer.
    """
    file, template = prompts_file(scenario.prompts), read_template(folder)
    prompts = []
    for place, text in _texts(file, _renderer(template, folder)):
        cut = tokenize(text, folder)
        ids = cut.ids if template is not None else (*cut.bos, *cut.ids)
        if len(ids) + scenario.new_tokens > scenario.context:
            raise UsageError(
                f"{place}: the prompt has {len(ids)} tokens; with an answer of {scenario.new_tokens} it does not fit "
                f"the context of {scenario.context}. Shorten it, or raise scenario.context"
            )
        prompts.append(Prompt(place, ids))
    return sorted(prompts, key=lambda prompt: len(prompt.ids))


def split_prompts(prompts: Sequence[Prompt], confirming: bool) -> list[Prompt]:
    """The prompts whose answers the search times, or those of confirmation: every other one by length.

    Few prompts are not split, and both time all of them.
    """
    return thin_prompts(prompts if len(prompts) < 2 * LEAST_ANSWERS else prompts[int(confirming) :: 2])


def thin_prompts(prompts: Sequence[Prompt]) -> list[Prompt]:
    """At most ``MOST_ANSWERS`` of the prompts, evenly by length where they come so."""
    if len(prompts) <= MOST_ANSWERS:
        return list(prompts)
    return [prompts[round(n * (len(prompts) - 1) / (MOST_ANSWERS - 1))] for n in range(MOST_ANSWERS)]


def timed_prompt(prompts: Sequence[Prompt]) -> tuple[int, ...]:
    """Token ids of the prompt that is timed, the one of median length; none where there are no prompts."""
    return prompts[len(prompts) // 2].ids if prompts else ()


def _texts(file: Path, render: ChatRenderer) -> Iterator[tuple[str, str]]:
    """Place and text of each prompt."""
    if not file.is_file():
        raise UsageError(f"there is no file '{file}' with prompts: a .txt with blank lines between them, or a .jsonl")
    found = False
    for row in _rows(file):
        place = f"{file.name}: {row.place}"
        column = text_column(TEXT, list(row.values), place)
        value = row.values[column]
        if not (value.strip() if isinstance(value, str) else value):
            raise UsageError(f"{place}: '{column}' is empty, which is no prompt. Fill it, or take the row out")
        messages = [{"role": "user", "content": value}] if isinstance(value, str) else value
        found = True
        yield place, as_text(messages, f"{place}: '{column}'", render)
    if not found:
        raise UsageError(f"{file} holds no prompt")


def _rows(file: Path) -> Iterator[Row]:
    if file_kind(file) in TABLES:
        yield from read_table(file)
        return
    paragraphs = [paragraph for paragraph in _BLANK.split(read_text(file)) if paragraph.strip()]
    for number, paragraph in enumerate(paragraphs, start=1):
        yield Row(f"paragraph {number}", {TEXT: paragraph})


def _asked(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """A conversation up to the answer that is asked for.

    Raises:
        UsageError: when nothing in it asks for one.
    """
    turns = [message if "role" in message else of_share_gpt(message) for message in messages]
    if turns[-1]["role"] == "assistant":  # an answer that was recorded with its prompt
        turns = turns[:-1]
    if all(turn["role"] == "assistant" or not str(turn["content"] or "").strip() for turn in turns):
        raise UsageError("no message asks for an answer. Add one of the role 'user', or take the row out")
    return turns


def _words(messages: Sequence[Mapping[str, Any]]) -> str:
    _asked(messages)
    return join_messages(messages)


def _renderer(template: ChatTemplate | None, folder: Path) -> ChatRenderer:
    def render(messages: Sequence[Mapping[str, Any]]) -> str:
        turns = _asked(messages)
        if template is not None:
            return template.render(turns)
        if len(turns) == 1:
            return str(turns[0]["content"])
        raise UsageError(f"'{folder}' has no chat template for chat messages. Write them out as text")

    return render
