"""The task of a plain study: its rows are read and checked before anything is built, then tokenized into feeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from olivine.evaluators.quality.label_scores import OF_CLASSES, SCORES, Numbers, Score, built_in
from olivine.evaluators.quality.task_score import TaskScore
from olivine.passes.errors import OlivineError, UsageError
from olivine.passes.graphs.graph_inputs import Feed, GraphInput, write_feeds
from olivine.passes.sources.content_hash import content_sha256
from olivine.passes.store.digests import digest
from olivine.search.config.graph import GraphStudyConfig
from olivine.search.config.task import TaskConfig
from olivine.search.workloads.graph_samples import TOKENIZER, text_feed, text_tokenizer
from olivine.search.workloads.task_labels import LabelReader, RowLabels
from olivine.search.workloads.task_rows import PARTS, PLACE, LabelledRow, labelled, parted, read_rows

#: Feeds of one file, an even number: a process that takes too long for so many hangs.
CHUNK = 64


@dataclass(frozen=True)
class Task:
    """A task whose rows and metric are there.

    Attributes:
        section: the section of the YAML.
        name: of the data.
        parts: part -> its rows, in the order in which they are scored.
        tokens: most tokens of a text, or of a pair that is read together.
        metric: one that ``evaluate`` has loaded; None for a built-in one.
        classes: name of a class -> its number, from the checkpoint's config.json.
        folder: of the model.
    """

    section: TaskConfig
    name: str
    parts: Mapping[str, tuple[LabelledRow, ...]]
    tokens: int
    metric: Score | None = None
    classes: Mapping[str, int] = field(default_factory=dict)
    folder: Path = Path()

    def fitted(self, folder: Path) -> Task:
        """The task for the model in ``folder``, whose tokenizer and names of classes it takes.

        Raises:
            UsageError: when there is no tokenizer, a label is none, or the metric does not take such labels.
        """
        text_tokenizer(folder, self.tokens, PLACE)
        fitted = replace(self, folder=folder, classes=_classes(folder))
        labels = np.concatenate([fitted.labels(part).numbers for part in PARTS])
        if self.metric is not None:
            _try(self.section.metric, self.metric, labels)
        return fitted

    def labels(self, part: str) -> RowLabels:
        """The labels of a part, as numbers.

        Raises:
            UsageError: naming one that is none.
        """
        return self._labels.of(self.parts[part], self._words)

    @cached_property
    def _labels(self) -> LabelReader:
        labels = [row.label for part in PARTS for row in self.parts[part]]
        return LabelReader(self.section.label, self.section.prediction, self.name, self.classes, labels)

    @cached_property
    def _tokenizer(self) -> Any:
        return text_tokenizer(self.folder, self.tokens, PLACE)

    def _words(self, row: LabelledRow) -> tuple[int | None, ...]:
        """Number of the word that each token of a row belongs to; None for special ones."""
        return tuple(self._encoded(row)[0].word_ids)

    def _encoded(self, row: LabelledRow) -> list[Any]:
        """Tokens of a row: of its words, of its text or pair, or of each of two texts to compare."""
        prediction = self.section.prediction
        if prediction == "tokens":
            return [self._tokenizer.encode(list(row.texts), is_pretokenized=True)]
        if prediction == "cosine":
            return [self._tokenizer.encode(text) for text in row.texts]
        return [self._tokenizer.encode(*row.texts)]

    def write(self, part: str, to: Path, inputs: Sequence[GraphInput]) -> tuple[tuple[Path, int], ...]:
        """Write the feeds of a part to the folder ``to``; its files and the number of feeds in each.

        Raises:
            UsageError: when the graph reads something else than texts of any length.
        """
        for graph_input in inputs:
            if not _open(graph_input.dims):
                raise UsageError(
                    f"{PLACE}: the graph reads {graph_input.name} {list(graph_input.dims)}, where a row is one text of "
                    "any length: export it with the open sizes [batch, sequence]"
                )
        feeds = [feed for row in self.parts[part] for feed in self._feeds(inputs, row)]
        files = []
        for start in range(0, len(feeds), CHUNK):
            chunk = feeds[start : start + CHUNK]
            files.append((to / f"task-{part}-{start // CHUNK}.npz", len(chunk)))
            write_feeds(files[-1][0], chunk)
        return tuple(files)

    def _feeds(self, inputs: Sequence[GraphInput], row: LabelledRow) -> list[Feed]:
        encoded = self._encoded(row)
        if not all(text.ids for text in encoded):
            raise UsageError(f"{PLACE}.inputs.text: {self.name} has a text without tokens: {row.texts}")
        return [text_feed(inputs, text, f"{PLACE}.inputs") for text in encoded]

    def digest(self) -> str:
        """Hash of the texts and labels of every part."""
        return digest({part: [[[*row.texts], str(row.label)] for row in rows] for part, rows in self.parts.items()})

    def evaluator(
        self, part: str, feeds: tuple[tuple[Path, int], ...], store: Path, base_key: str, output: str | None
    ) -> TaskScore:
        """Make the evaluator that scores a part of the rows.

        Args:
            part: select or confirm.
            feeds: its files, as :meth:`write` gave them.
            store: folder for the base's predictions.
            base_key: what the base is.
            output: name of the output; the first one by default.
        """
        labels = self.labels(part)
        every = np.concatenate([self.labels(one).numbers for one in PARTS])
        metric, score = (self.section.metric, self.metric) if self.metric else built_in(self.section.metric, every)
        rows = digest([[[*row.texts], str(row.label)] for row in self.parts[part]], length=12)
        protocol = {"data": self.name, "split": part, "metric": metric, "tokens": self.tokens, "rows_key": rows}
        key = digest([base_key, rows, self.tokens, content_sha256(self.folder / TOKENIZER)], length=12)
        return TaskScore(
            feeds,
            labels.numbers,
            self.section.prediction,
            score,
            store,
            key,
            output,
            protocol,
            labels.counts,
            labels.positions,
        )


def load_task(config: GraphStudyConfig) -> Task | None:
    """The task of a study, if it has one: rows read, metric loaded.

    Raises:
        UsageError: naming each of data, columns and metric that is not there.
    """
    section = config.evaluation.task
    if section is None:
        return None
    mistakes: list[str] = []
    metric: Score | None = None
    parts: dict[str, tuple[LabelledRow, ...]] = {}
    name = section.data
    try:
        name, rows = read_rows(section)
        parts = parted(labelled(section, name, rows), config.seed, section.limit, name)
    except UsageError as error:
        mistakes.append(str(error))
    if section.metric not in SCORES:
        from olivine.evaluators.quality.label_metrics import load_score  # heavy

        try:
            metric = load_score(section.metric)
        except UsageError as error:
            mistakes.append(f"{PLACE}.metric: {error}")
    if mistakes:
        raise UsageError("\n".join(mistakes))
    return Task(section, name, parts, config.inputs.tokens, metric)


def _open(dims: Sequence[int | str]) -> bool:
    """True where a batch of one text of any length fits."""
    return len(dims) == 2 and isinstance(dims[1], str) and (dims[0] == 1 or isinstance(dims[0], str))


def _classes(folder: Path) -> dict[str, int]:
    """Name -> number of the classes that a checkpoint's config.json names."""
    try:
        named = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("label2id")
        return {str(name): int(number) for name, number in (named or {}).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _try(name: str, score: Score, labels: Numbers) -> None:
    """Check that a loaded metric takes these labels, and is larger for better predictions.

    Raises:
        UsageError: when it is not so.
    """
    try:
        best, worse = score(labels, labels), score(np.roll(labels, 1), labels)
    except OlivineError as error:
        fits = "accuracy, f1, matthews_correlation" if name in OF_CLASSES else ", ".join(SCORES)
        raise UsageError(f"{PLACE}.metric: {error}. Built in: {fits}") from error
    if worse > best:
        raise UsageError(
            f"{PLACE}.metric: '{name}' is {best:.6g} for perfect predictions and {worse:.6g} for wrong ones; a task's "
            "metric is larger for better ones"
        )
