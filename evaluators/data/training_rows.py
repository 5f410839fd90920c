"""Rows for fine-tuning: read from a file or a data set, put into a template, and cut into pieces of tokens."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olivine.evaluators.data.rows import TABLES, TEXT, file_rows
from olivine.evaluators.data.text_file import file_kind
from olivine.evaluators.data.text_source import TextSource, as_text, text_column
from olivine.evaluators.data.tokenizing import ChatRenderer
from olivine.passes.errors import UsageError, did_you_mean

#: The template that takes the column of a plain text alone.
PLAIN = "{text}"


@dataclass(frozen=True)
class Rows:
    """Rows of named columns.

    Attributes:
        name: in reports.
        rows: each with the columns that it has.
    """

    name: str
    rows: Sequence[Mapping[str, Any]]

    @property
    def columns(self) -> list[str]:
        """Every column that a row has."""
        return list(dict.fromkeys(column for row in self.rows for column in row))

    def texts(self, template: str, render: ChatRenderer | None = None) -> list[str]:
        """Fill the template with the columns of each row in the place of ``{column}``; blank texts are left out.

        Args:
            template: text with names of columns in braces. Rows of chat messages, in a column ``messages`` or
                ``conversations``, need none where they have no column ``text``.
            render: puts chat messages into text.

        Raises:
            UsageError: for a template that names no column, or one that the data, or a row of it, lacks.
        """
        parts = parse_template(template)
        if not self.rows:
            raise UsageError(f"{self.name} has no rows to learn from")
        columns = self.columns
        if template == PLAIN:
            parts = [("", text_column(TEXT, columns, f"--text-template: {self.name}"))]
        for _, column in parts:
            if column is not None and column not in columns:
                raise UsageError(
                    f"--text-template: {self.name} has no column '{column}'. {did_you_mean(column, columns)}"
                )
        texts = []
        for number, row in enumerate(self.rows, start=1):
            lacking = [column for _, column in parts if column is not None and row.get(column) is None]
            if lacking:
                raise UsageError(f"{self.name}: row {number} has no '{lacking[0]}'; it has {', '.join(map(str, row))}")
            place = f"{self.name}: row {number}"
            words = [(text, "" if column is None else _word(row[column], place, render)) for text, column in parts]
            texts.append("".join(text + word for text, word in words))
        return [text for text in texts if text.strip()]


def _word(value: object, place: str, render: ChatRenderer | None) -> str:
    """The text of a value in a template; numbers are written out."""
    return str(value) if isinstance(value, int | float) else as_text(value, place, render)


def parse_template(template: str) -> list[tuple[str, str | None]]:
    r"""Split a template into (text, column after it); ``\n`` and ``\t`` may be written as a shell passes them.

    Raises:
        UsageError: when braces do not match or hold more than a name, or no column is named.
    """
    plain = template.replace("\\n", "\n").replace("\\t", "\t")
    try:
        parts = list(string.Formatter().parse(plain))
    except ValueError as error:
        raise UsageError(f"--text-template: {error}; a brace that is meant is doubled: {{{{") from None
    if any(form or change for _, column, form, change in parts if column is not None) or any(
        column == "" for _, column, _, _ in parts
    ):
        raise UsageError("--text-template: braces hold the name of a column and nothing else, such as {instruction}")
    if not any(column is not None for _, column, _, _ in parts):
        raise UsageError("--text-template: it names no column, so that every text would be the same. Write {column}")
    return [(text, column) for text, column, _, _ in parts]


def read_rows(data: str, config: str | None = None, split: str = "train") -> Rows:
    """Read the rows of a file (a table, or plain text), of ``demo:news``, or of a hub data set.

    Plain text has the column ``text``, a row per paragraph.

    Raises:
        UsageError: when it can't be found or read.
    """
    path = Path(data).expanduser()
    if data.startswith("demo:"):
        return Rows(data, [{TEXT: text} for text in TextSource.parse(data).documents()])
    if path.is_file():
        return Rows(path.name, list(file_rows(path)))
    if path.exists() or file_kind(path) in (*TABLES, ".txt") or data.count("/") > 1:
        raise UsageError(f"--data: there is no file '{data}'. Data is a local file, demo:news or a hub data set.")
    import datasets  # heavy, and only needed here

    name = ":".join(part for part in (data, config, split) if part)
    try:
        return Rows(name, list(datasets.load_dataset(data, config, split=split)))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--data: can't read the data set '{name}': {error}. Check id, --data-config and --data-split and that the "
            "hub can be reached, or use a local file."
        ) from error


def hold_out(texts: Sequence[str], share: float, seed: int) -> tuple[list[str], list[str]]:
    """Split texts into those to train on and a held-out share of the different ones; repeated ones stay together.

    Raises:
        UsageError: when there are not two different texts.
    """

    def place(text: str) -> bytes:
        return hashlib.sha256(f"{seed}:{text.strip()}".encode()).digest()

    different = sorted({place(text) for text in texts})
    if len(different) < 2:
        raise UsageError(
            f"There is only {len(different)} text to learn from, and one has to be held out: give more. In a plain "
            "text file, blank lines separate them."
        )
    held_out = set(different[: min(len(different) - 1, max(1, round(share * len(different))))])
    return [text for text in texts if place(text) not in held_out], [text for text in texts if place(text) in held_out]


def token_pieces(texts: Sequence[str], tokenizer: Any, longest: int) -> list[tuple[int, list[int]]]:
    """Cut texts into pieces of at most ``longest`` tokens: (number of the text, token ids).

    The end of a text has a token of its own. A text is cut, not cut off: all of it is learned. A rest of one token
    predicts nothing and is left out.
    """
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    pieces = []
    for number, text in enumerate(texts):
        ids = list(tokenizer.encode(text))
        if start is not None and ids[:2] == [start, start]:  # chat templates write the token that tokenizers add
            ids = ids[1:]
        if end is not None and ids[-1:] != [end]:
            ids.append(int(end))
        cuts = (ids[first : first + longest] for first in range(0, len(ids), longest))
        pieces += [(number, piece) for piece in cuts if len(piece) > 1]
    return pieces
