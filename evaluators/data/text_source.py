"""Texts: documents from a demo, a file or a data set, and their splits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from olivine.evaluators.data.rows import TABLES, TEXT, Row, read_table
from olivine.evaluators.data.text_file import file_kind, read_text
from olivine.evaluators.data.tokenizing import ChatRenderer, is_chat
from olivine.evaluators.data.wiki_dump import articles
from olivine.passes.errors import UsageError, did_you_mean

SPLITS = ("calibrate", "select", "confirm")
#: Texts that need no file and no hub.
DEMO_TEXTS = ("demo:news", "demo:encyclopedia")
#: Columns with chat messages, where there is no column with a text.
CHATS = ("messages", "conversations")
_SETTINGS = ("file", "dataset", "config", "split", "column", "revision")


@dataclass(frozen=True)
class TextSource:
    """Source of documents: one of ``demo``, ``file`` and ``dataset`` is set.

    Attributes:
        demo: name of a demo text (``news``, ``encyclopedia``).
        file: local .jsonl, .json, .csv, .tsv or .parquet, or a plain text with blank lines between documents; it may
            be compressed.
        dataset: hub id.
        config: the data set's configuration.
        split: the data set's split.
        column: with the text, in everything but plain text.
        revision: commit, tag or branch on the hub.
    """

    demo: str | None = None
    file: Path | None = None
    dataset: str | None = None
    config: str | None = None
    split: str = "test"
    column: str = "text"
    revision: str | None = None

    @classmethod
    def parse(cls, spec: str | Mapping[str, Any]) -> TextSource:
        """Make a source from a value of a YAML or a command line.

        ``demo:news``, the path of a file, or a mapping with ``file`` or ``dataset`` and the other attributes.

        Raises:
            UsageError: for an unknown key or demo text, or a file that is not there.
        """
        settings: dict[str, Any] = {"file": spec}
        if isinstance(spec, str) and spec.startswith("demo:"):
            settings = {"demo": spec.removeprefix("demo:")}
        if isinstance(spec, Mapping):
            settings = dict(spec)
            for key in settings:
                if key not in _SETTINGS:
                    raise UsageError(f"Unknown key '{key}' of a text. {did_you_mean(key, _SETTINGS)}")
            if ("file" in settings) == ("dataset" in settings):
                raise UsageError("A text has either 'file' or 'dataset' (or is written 'demo:news').")
        if "demo" in settings and f"demo:{settings['demo']}" not in DEMO_TEXTS:
            raise UsageError(f"Unknown text '{spec}'. {did_you_mean(str(spec), DEMO_TEXTS)}")
        if "file" in settings:
            settings["file"] = Path(str(settings["file"])).expanduser()
            if not settings["file"].is_file():
                raise UsageError(
                    f"No file '{settings['file']}'. A text is demo:news, demo:encyclopedia, a local file or "
                    "a hub data set."
                )
        return cls(**settings)

    @classmethod
    def of(cls, text: str | BaseModel) -> TextSource:
        """Make a source from the checked value of a config.

        Raises:
            UsageError: as :meth:`parse`.
        """
        return cls.parse(text if isinstance(text, str) else text.model_dump(exclude_defaults=True))

    @property
    def name(self) -> str:
        """Name of this text in results."""
        if self.demo:
            return f"demo:{self.demo}"
        if self.file:
            return self.file.name
        return ":".join(part for part in (self.dataset, self.config, self.split) if part)

    def documents(self, render: ChatRenderer | None = None) -> list[str]:
        """Read the documents, in the source's order, empty ones included.

        Rows whose text is null are left out. Chat messages, in the named column or in ``messages`` or ``conversations``
        where there is no column ``text``, are put into text.

        Args:
            render: puts chat messages into text, such as :meth:`ChatTemplate.render`.

        Raises:
            UsageError: when the source can't be read or reached, has no such column, or a row of it is no text.
        """
        if self.demo:
            return _demo_documents(self.demo)
        if self.file and file_kind(self.file) not in TABLES:
            return [paragraph for paragraph in read_text(self.file).split("\n\n") if paragraph.strip()]
        rows = list(read_table(self.file) if self.file else self._hub_rows())
        return _texts(rows, self.column, self.name, render)

    def digest(self) -> str:
        """SHA-256 over the documents: the same for the same texts in whatever file, encoding or chat template.

        Raises:
            UsageError: as :meth:`documents`.
        """
        documents = self.documents(lambda messages: json.dumps(messages, sort_keys=True, default=str))
        content = hashlib.sha256()
        for document in documents:
            content.update(hashlib.sha256(document.encode()).digest())
        return content.hexdigest()

    def _hub_rows(self) -> Iterator[Row]:
        import datasets  # heavy, and only needed here

        try:
            rows = datasets.load_dataset(self.dataset, self.config, split=self.split, revision=self.revision)
        except (OSError, ValueError) as error:
            # The hub's errors are OSErrors (no network, no such data set), datasets' own are ValueErrors.
            raise UsageError(
                f"Can't read the data set '{self.name}': {error}. Check id, config, split and revision and "
                "that the hub can be reached, or use a local file or demo:news."
            ) from error
        needed = rows.select_columns([text_column(self.column, rows.column_names, self.name)])
        yield from (Row(f"row {number}", values) for number, values in enumerate(needed, start=1))


def _demo_documents(name: str) -> list[str]:
    from olivine.passes.sources.demo import fetch_encyclopedia, fetch_news

    return read_text(fetch_news()).split("\n") if name == "news" else articles(read_text(fetch_encyclopedia()))


def _texts(rows: Sequence[Row], column: str, name: str, render: ChatRenderer | None) -> list[str]:
    """The text of each row that has one."""
    column = text_column(column, list(dict.fromkeys(key for row in rows for key in row.values)), name)
    values = [(row.place, row.values[column]) for row in rows if row.values.get(column) is not None]
    if not values:
        raise UsageError(f"{name}: no row has a text in '{column}'")
    return [as_text(value, f"{name}: {place}: '{column}'", render) for place, value in values]


def text_column(column: str, columns: Sequence[str], name: str) -> str:
    """Find the column with the text: the named one, or one with chat messages where ``text`` is not there.

    Raises:
        UsageError: when there is neither.
    """
    chats = [chat for chat in CHATS if chat in columns and column == TEXT]
    if column not in columns and not chats:
        raise UsageError(f"{name} has no column '{column}'. {did_you_mean(column, columns)}")
    return column if column in columns else chats[0]


def as_text(value: object, place: str, render: ChatRenderer | None) -> str:
    """Take a value that should be a text as one.

    Args:
        value: a text, or chat messages.
        place: of the value, for messages to people.
        render: puts chat messages into text.

    Raises:
        UsageError: when it is neither.
    """
    if is_chat(value):
        if render is None:
            raise UsageError(f"{place} holds chat messages; no model's chat template puts them into text here")
        try:
            value = render(value)
        except UsageError as error:
            raise UsageError(f"{place}: {error}") from error
    if not isinstance(value, str):
        kind = "messages without role and content" if isinstance(value, list | tuple | dict) else f"{value!r}"
        raise UsageError(f"{place} holds {kind}, which is no text. Name another column, or write it as text.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        code = f"\\u{ord(value[error.start]):04x}"
        raise UsageError(f"{place} holds {code}, which is half of a character. Write both halves, or none.") from error
    return value


def splits(
    documents: Sequence[str], seed: int = 0, shares: tuple[float, float, float] = (0.4, 0.3, 0.3)
) -> dict[str, list[str]]:
    """Split documents into ``calibrate``, ``select`` and ``confirm``, disjoint and the same every time.

    The split of a document follows from a hash of its text and the seed alone: repeated documents stay
    together, and adding some moves no other. Blank documents are dropped.
    """
    documents_of: dict[str, list[str]] = {name: [] for name in SPLITS}
    for document in documents:
        if not document.strip():
            continue
        draw = hashlib.sha256(f"{seed}:{document.strip()}".encode()).digest()
        place = int.from_bytes(draw[:8], "big") / 2**64 * sum(shares)
        name = SPLITS[0] if place < shares[0] else SPLITS[1] if place < shares[0] + shares[1] else SPLITS[2]
        documents_of[name].append(document)
    return documents_of
