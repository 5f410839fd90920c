"""Feeds of text: what a graph reads of what the tokenizer of its model made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from olivine.evaluators.data.tokenizing import read_tokenizer
from olivine.passes.errors import UsageError
from olivine.passes.graphs.graph_inputs import Feed, GraphInput

TOKENIZER = "tokenizer.json"


def text_tokenizer(folder: Path, most: int, place: str) -> Any:
    """The tokenizer in a model's folder, cutting off at ``most`` tokens; ``place`` of the YAML needs it.

    Raises:
        UsageError: when there is none.
    """
    path = folder / TOKENIZER
    if not path.is_file():
        raise UsageError(f"{place} needs a {TOKENIZER} in the model's folder {folder}, or beside its .onnx file")
    tokenizer = read_tokenizer(path)
    tokenizer.enable_truncation(most)
    return tokenizer


def text_feed(inputs: Sequence[GraphInput], encoded: Any, place: str) -> Feed:
    """A batch of one text.

    Raises:
        UsageError: when the graph reads something else than text.
    """
    return {given.name: _values(given, encoded, place) for given in inputs}


def _values(given: GraphInput, encoded: Any, place: str) -> np.ndarray:
    name = given.name.lower()
    values = encoded.ids
    if "mask" in name:
        values = encoded.attention_mask
    elif "type" in name:
        values = encoded.type_ids
    elif "position" in name:
        values = range(len(encoded.ids))
    elif np.dtype(given.dtype).kind not in "iu":
        raise UsageError(f"{place}: the graph reads {given.name} of type {given.dtype}, which is no text")
    return np.array([list(values)], dtype=given.dtype)
