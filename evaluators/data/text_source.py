"""Texts: documents from a demo, a file or a data set, their splits, and their tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olivine.evaluators.data.rows import file_rows
from olivine.evaluators.data.windows import TokenizedText
from olivine.passes.errors import UsageError, did_you_mean

SPLITS = ("calibrate", "select", "confirm")
_SETTINGS = ("file", "dataset", "config", "split", "column", "revision")


@dataclass(frozen=True)
class TextSource:
    """Source of documents: one of ``demo``, ``file`` and ``dataset`` is set.

    Attributes:
        demo: name of a demo text (``news``).
        file: local .txt (documents are separated by blank lines), .jsonl, .json or .parquet.
        dataset: hub id.
        config: the data set's configuration.
        split: the data set's split.
        column: with the text, in everything but .txt.
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
        if "demo" in settings and settings["demo"] != "news":
            raise UsageError(f"Unknown text '{spec}'. {did_you_mean(str(spec), ['demo:news'])}")
        if "file" in settings:
            settings["file"] = Path(str(settings["file"])).expanduser()
            if not settings["file"].is_file():
                raise UsageError(f"No file '{settings['file']}'. A text is demo:news, a local file or a hub data set.")
        return cls(**settings)

    @property
    def name(self) -> str:
        """Name of this text in results."""
        if self.demo:
            return f"demo:{self.demo}"
        if self.file:
            return self.file.name
        return ":".join(part for part in (self.dataset, self.config, self.split) if part)

    def documents(self) -> list[str]:
        """The documents, in the source's order, empty ones included.

        Raises:
            UsageError: when the source can't be read or reached, or has no such column.
        """
        if self.demo:
            from olivine.passes.sources.demo import fetch_news

            return fetch_news().read_text(encoding="utf-8").splitlines()
        if self.file:
            return _read_file(self.file, self.column)
        return self._from_hub()

    def _from_hub(self) -> list[str]:
        import datasets  # heavy, and only needed here

        try:
            rows = datasets.load_dataset(self.dataset, self.config, split=self.split, revision=self.revision)
        except (OSError, ValueError) as error:
            # The hub's errors are OSErrors (no network, no such data set), datasets' own are ValueErrors.
            raise UsageError(
                f"Can't read the data set '{self.name}': {error}. Check id, config, split and revision and "
                "that the hub can be reached, or use a local file or demo:news."
            ) from error
        _check_column(self.column, rows.column_names, self.name)
        return [str(text) for text in rows[self.column]]


def _read_file(path: Path, column: str) -> list[str]:
    if path.suffix not in (".json", ".jsonl", ".parquet"):
        return [document for document in path.read_text(encoding="utf-8").split("\n\n") if document.strip()]
    rows = list(file_rows(path))
    for row in rows:
        _check_column(column, list(row), path.name)
    return [str(row[column]) for row in rows]


def _check_column(column: str, columns: Sequence[str], name: str) -> None:
    if column not in columns:
        raise UsageError(f"{name} has no column '{column}'. {did_you_mean(column, columns)}")


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


def tokenize(text: str, folder: Path) -> TokenizedText:
    """Tokenize ``text`` by the tokenizer in a model folder.

    Raises:
        UsageError: when the folder has no tokenizer that can be read.
    """
    tokenizer = _tokenizer(folder)
    encoding = tokenizer.encode(text, add_special_tokens=False)
    with_special = tokenizer.encode("a", add_special_tokens=True)
    plain = len(tokenizer.encode("a", add_special_tokens=False).ids)
    mask = with_special.special_tokens_mask
    before = next((i for i, special in enumerate(mask) if not special), len(mask) - plain)
    return TokenizedText(text, tuple(encoding.ids), tuple(encoding.offsets), tuple(with_special.ids[:before]))


def _tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    if (folder / "tokenizer.json").is_file():
        try:
            return Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises nothing more specific
            raise UsageError(f"{folder / 'tokenizer.json'} can't be read: {error}") from error
    from transformers import AutoTokenizer  # heavy; only for folders without tokenizer.json

    try:
        slow = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise UsageError(f"'{folder}' has no tokenizer that can be read: {error}") from error
    if not hasattr(slow, "backend_tokenizer"):
        raise UsageError(f"'{folder}' has a tokenizer without character offsets; save it as tokenizer.json")
    return slow.backend_tokenizer
