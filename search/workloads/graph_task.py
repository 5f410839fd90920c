"""The task of a plain study: its rows are read and checked before anything is built, then tokenized into feeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from olivine.evaluators.data.rows import file_rows
from olivine.evaluators.data.text_source import splits
from olivine.evaluators.quality.label_scores import OF_CLASSES, SCORES, Numbers, Score, built_in
from olivine.evaluators.quality.task_score import TaskScore
from olivine.passes.errors import OlivineError, UsageError, did_you_mean
from olivine.passes.graphs.graph_inputs import Feed, GraphInput, write_feeds
from olivine.passes.sources.content_hash import content_sha256
from olivine.passes.store.digests import digest
from olivine.search.config.graph import GraphStudyConfig
from olivine.search.config.task import TaskConfig
from olivine.search.workloads.graph_samples import TOKENIZER, text_feed, text_tokenizer

PLACE = "evaluation.task"
#: The parts: the search scores one, confirmation the other.
PARTS = ("select", "confirm")
#: Feeds of one file, an even number: a process that takes too long for so many hangs.
CHUNK = 64


@dataclass(frozen=True)
class LabelledRow:
    """One row: a text or two, and its label."""

    texts: tuple[str, ...]
    label: Any


@dataclass(frozen=True)
class Task:
    """A task whose rows and metric are there.

    Attributes:
        section: the section of the YAML.
        name: of the data.
        parts: part -> its rows, in the order in which they are scored.
        tokens: most tokens of a text, or of a pair for ``argmax``.
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
        labels = np.concatenate([fitted.labels(part) for part in PARTS])
        if self.metric is not None:
            _try(self.section.metric, self.metric, labels)
        return fitted

    def labels(self, part: str) -> Numbers:
        """[rows] the labels of a part, as numbers.

        Raises:
            UsageError: naming one that is none.
        """
        whole = self.section.prediction == "argmax"
        numbers = np.array([self._number(row.label, whole) for row in self.parts[part]], dtype=np.float64)
        return numbers.astype(np.int64) if whole else numbers

    def _number(self, label: Any, whole: bool) -> float:
        if isinstance(label, str) and label in self.classes:
            return self.classes[label]
        try:
            number = float(label)
        except (TypeError, ValueError):
            number = float("nan")
        if not np.isfinite(number) or (whole and number != int(number)):
            wanted = "the number of a class" if whole else "a number"
            names = f", or one of {', '.join(self.classes)}" if whole and self.classes else ""
            if whole and not self.classes and isinstance(label, str):
                names = "; names of classes have to be in 'label2id' of the model's config.json"
            raise UsageError(
                f"{PLACE}.label: {self.name} has the label {label!r} in '{self.section.label}'; "
                f"it takes {wanted}{names}"
            )
        return number

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
        tokenizer = text_tokenizer(self.folder, self.tokens, PLACE)
        feeds = [feed for row in self.parts[part] for feed in self._feeds(tokenizer, inputs, row)]
        files = []
        for start in range(0, len(feeds), CHUNK):
            chunk = feeds[start : start + CHUNK]
            files.append((to / f"task-{part}-{start // CHUNK}.npz", len(chunk)))
            write_feeds(files[-1][0], chunk)
        return tuple(files)

    def _feeds(self, tokenizer: Any, inputs: Sequence[GraphInput], row: LabelledRow) -> list[Feed]:
        apart = self.section.prediction == "cosine"
        encoded = [tokenizer.encode(text) for text in row.texts] if apart else [tokenizer.encode(*row.texts)]
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
        every = np.concatenate([self.labels(one) for one in PARTS])
        metric, score = (self.section.metric, self.metric) if self.metric else built_in(self.section.metric, every)
        rows = digest([[[*row.texts], str(row.label)] for row in self.parts[part]], length=12)
        protocol = {"data": self.name, "split": part, "metric": metric, "tokens": self.tokens, "rows_key": rows}
        key = digest([base_key, rows, self.tokens, content_sha256(self.folder / TOKENIZER)], length=12)
        return TaskScore(feeds, labels, self.section.prediction, score, store, key, output, protocol)


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
        name, rows = _rows(section)
        parts = _parted(_labelled(section, name, rows), config.seed, section.limit, name)
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


def _rows(section: TaskConfig) -> tuple[str, list[Mapping[str, Any]]]:
    """Name and rows of the data."""
    path = section.file
    if path is not None:
        if not path.is_file():
            raise UsageError(
                f"{PLACE}.data: there is no file '{section.data}'. It takes a JSONL, CSV or Parquet file, or a "
                "hub data set"
            )
        try:
            return path.name, list(file_rows(path))
        except UsageError as error:
            raise UsageError(f"{PLACE}.data: {error}") from error
    import datasets  # heavy, and only needed here

    split = section.split or "test"
    name = ":".join(part for part in (section.data, section.config, split) if part)
    try:
        return name, list(datasets.load_dataset(section.data, section.config, split=split, revision=section.revision))
    except (OSError, ValueError) as error:  # the hub's errors are OSErrors, datasets' own are ValueErrors
        raise UsageError(
            f"{PLACE}.data: '{section.data}' is no local file, and the data set '{name}' can't be read: {error}. Check "
            "id, config, split and revision and that the hub can be reached, or take a JSONL, CSV or Parquet file"
        ) from error


def _labelled(section: TaskConfig, name: str, rows: Sequence[Mapping[str, Any]]) -> list[LabelledRow]:
    """Texts and label of every row."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    places = [("inputs.text", column) for column in section.inputs.text] + [("label", section.label)]
    if not rows:
        raise UsageError(f"{PLACE}.data: {name} has no rows")
    lacking = [
        f"{PLACE}.{place}: {name} has no column '{column}'. {did_you_mean(column, columns)}"
        for place, column in places
        if column not in columns
    ]
    if lacking:
        raise UsageError("\n".join(lacking))
    labelled = []
    for number, row in enumerate(rows, start=1):
        for place, column in places:
            value = row.get(column)
            if value is None or (place != "label" and not (isinstance(value, str) and value.strip())):
                wanted = "a label" if place == "label" else "a text"
                raise UsageError(f"{PLACE}.{place}: row {number} of {name} has {value!r} in '{column}', not {wanted}")
        labelled.append(LabelledRow(tuple(row[column] for column in section.inputs.text), row[section.label]))
    return labelled


def _parted(rows: Sequence[LabelledRow], seed: int, limit: int, name: str) -> dict[str, tuple[LabelledRow, ...]]:
    """Rows for the search and for confirmation, equal texts together; in an order that is random and fixed."""
    keys = [json.dumps(row.texts) for row in rows]
    shares = splits(keys, seed, (0.0, 0.5, 0.5))
    order = np.random.default_rng([seed, 11]).permutation(len(rows))
    parts = {}
    for part in PARTS:
        inside = set(shares[part])
        parts[part] = tuple(rows[i] for i in order if keys[i] in inside)[:limit]
        if len(parts[part]) < 2:
            raise UsageError(
                f"{PLACE}.data: {name} has {len(rows)} rows, of which {len(parts[part])} for '{part}'; it takes at "
                "least 2. Half of the rows are for the search, half for confirmation: name more"
            )
    return parts


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
