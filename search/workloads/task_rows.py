"""Rows of a graph's task: read, checked for their columns, and shared out between search and confirmation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from olivine.evaluators.data.rows import file_rows
from olivine.evaluators.data.text_source import splits
from olivine.passes.errors import UsageError, did_you_mean
from olivine.search.config.task import TaskConfig

PLACE = "evaluation.task"
#: The parts: the search scores one, confirmation the other.
PARTS = ("select", "confirm")


@dataclass(frozen=True)
class LabelledRow:
    """One row: a text or two, or the words of one; and its label."""

    texts: tuple[str, ...]
    label: Any


def read_rows(section: TaskConfig) -> tuple[str, list[Mapping[str, Any]]]:
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


def labelled(section: TaskConfig, name: str, rows: Sequence[Mapping[str, Any]]) -> list[LabelledRow]:
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
    words = section.prediction == "tokens"
    fits = _is_words if words else _is_text
    labelled = []
    for number, row in enumerate(rows, start=1):
        for place, column in places:
            value = row.get(column)
            if value is None or (place != "label" and not fits(value)):
                wanted = "a label" if place == "label" else "words in a list" if words else "a text"
                raise UsageError(f"{PLACE}.{place}: row {number} of {name} has {value!r} in '{column}', not {wanted}")
        texts = row[section.inputs.text[0]] if words else (row[column] for column in section.inputs.text)
        labelled.append(LabelledRow(tuple(texts), row[section.label]))
    return labelled


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_words(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_text, value))


def parted(rows: Sequence[LabelledRow], seed: int, limit: int, name: str) -> dict[str, tuple[LabelledRow, ...]]:
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
