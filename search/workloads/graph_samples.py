"""The samples of a plain study: texts, pictures, rows of arrays or made-up values, in three parts that share nothing.

Ranges are learned from ``calibrate``; the search compares outputs on ``select``, confirmation on ``confirm``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from olivine.evaluators.data.text_source import SPLITS, TextSource, splits
from olivine.evaluators.data.tokenizing import ChatTemplate, read_tokenizer
from olivine.passes.errors import UsageError
from olivine.passes.graphs.graph_inputs import Feed, GraphInput, check_sizes, synthetic, write_feeds
from olivine.passes.graphs.pictures import picture_feeds
from olivine.search.config.graph import GraphStudyConfig

TOKENIZER = "tokenizer.json"
Make = Callable[[str, int], list[Feed]]


@dataclass(frozen=True)
class Samples:
    """Files of feeds.

    Attributes:
        folder: where they lie.
        origin: where the samples come from, for protocols.
        counts: split -> samples in its file.
        shapes: names of the shapes, in the order of their file.
        entries: keys of cache entries that hold them: none, they are files of the study.
        notes: on samples that could not be had: none, a study without its samples is refused.
    """

    folder: Path
    origin: str
    counts: Mapping[str, int]
    shapes: tuple[str, ...]
    entries: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The file that static ranges are learned from."""
        return str(self.path("calibrate").resolve())

    def flags(self) -> list[str]:
        """None: the flags that name the inputs give the samples too."""
        return []

    def to_json(self) -> dict[str, Any]:
        """The samples that static ranges are learned from, for a manifest."""
        return {"samples": self.origin, "count": self.counts["calibrate"], "split": "calibrate"}

    def path(self, split: str) -> Path:
        """The file of one split: select, confirm, calibrate."""
        return self.folder / f"{split}.npz"

    @property
    def timed(self) -> Path:
        """The file with one feed a shape."""
        return self.folder / "shapes.npz"


def make_samples(config: GraphStudyConfig, model: Path, inputs: Sequence[GraphInput], to: Path) -> Samples:
    """Write the samples of a study; the same every time.

    Args:
        config: of the study.
        model: folder of the model, where a tokenizer may be.
        inputs: of its graph.
        to: the folder for the files.

    Raises:
        UsageError: when shapes, texts, pictures or arrays do not fit the graph, or are too few.
    """
    section = config.inputs
    for name, sizes in section.shapes.items():
        check_sizes(inputs, sizes, f"inputs.shapes.{name}")
    to.mkdir(parents=True, exist_ok=True)
    timed = [synthetic(inputs, sizes, np.random.default_rng([config.seed, 7])) for sizes in section.shapes.values()]
    origin, make = _maker(config, model, inputs)
    counts: dict[str, int] = {}
    samples = Samples(to, origin, counts, tuple(section.shapes))
    write_feeds(samples.timed, timed)
    for split in SPLITS:
        count = section.calibrate if split == "calibrate" else section.samples
        feeds = make(split, count)
        if len(feeds) < min(count, 2):
            raise UsageError(
                f"inputs: {origin} gives {len(feeds)} samples for '{split}'; it takes at least 2. Name more."
            )
        counts[split] = len(feeds)
        write_feeds(samples.path(split), feeds)
    return samples


def _maker(config: GraphStudyConfig, model: Path, inputs: Sequence[GraphInput]) -> tuple[str, Make]:
    """Return the name of the samples, and the function that makes those of a split."""
    section, seed = config.inputs, config.seed
    if section.text is not None:
        text = TextSource.of(section.text)
        parts = splits(text.documents(ChatTemplate(model).render), seed)
        return text.name, lambda split, count: _texts(parts[split], model, inputs, section.tokens, count)
    if section.pictures is not None:
        name = section.pictures
        return name, lambda split, count: picture_feeds(name, inputs, count, seed, SPLITS.index(split), len(SPLITS))
    if section.data is not None:
        path = Path(section.data).expanduser()
        rows = _rows(path, inputs)
        order = np.random.default_rng(seed).permutation(len(next(iter(rows.values()))))
        shares = np.array_split(order, len(SPLITS))

        def taken(split: str, count: int) -> list[Feed]:
            chosen = shares[SPLITS.index(split)][:count]
            return [{name: values[i : i + 1] for name, values in rows.items()} for i in chosen]

        return path.name, taken

    def made_up(split: str, count: int) -> list[Feed]:
        rng = np.random.default_rng([seed, SPLITS.index(split)])
        shapes = list(section.shapes.values())
        # Histograms of static ranges need arrays of one size.
        sizes = shapes[:1] if split == "calibrate" else shapes
        return [synthetic(inputs, sizes[i % len(sizes)], rng) for i in range(count)]

    return "made-up values", made_up


def _texts(documents: Sequence[str], model: Path, inputs: Sequence[GraphInput], most: int, count: int) -> list[Feed]:
    """The first tokens of documents that have that many, one a batch; shorter ones as they are where those run out.

    Raises:
        UsageError: when the model's folder has no tokenizer.json, or the graph reads something else than text.
    """
    tokenizer = text_tokenizer(model, most, "inputs.text")
    encoded = [tokenizer.encode(document) for document in documents]
    encoded.sort(key=lambda text: -len(text.ids))  # equal sizes first: histograms of ranges need them
    return [text_feed(inputs, text, "inputs.text") for text in encoded[:count] if text.ids]


def _rows(path: Path, inputs: Sequence[GraphInput]) -> Feed:
    """An array an input, all of the same length.

    Raises:
        UsageError: when the file is none, lacks an input, or the arrays' lengths differ.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError) as error:
        raise UsageError(f"inputs.data: {path} can't be read as .npz: {error}") from error
    lacking = [graph_input.name for graph_input in inputs if graph_input.name not in arrays]
    if lacking:
        raise UsageError(f"inputs.data: {path} has no array {', '.join(lacking)}; it has {', '.join(arrays)}")
    rows = {graph_input.name: arrays[graph_input.name].astype(graph_input.dtype) for graph_input in inputs}
    if len({len(values) for values in rows.values()}) != 1:
        lengths = ", ".join(f"{name} {len(values)}" for name, values in rows.items())
        raise UsageError(f"inputs.data: the arrays of {path} differ in length: {lengths}")
    return rows


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
    return {graph_input.name: _values(graph_input, encoded, place) for graph_input in inputs}


def _values(graph_input: GraphInput, encoded: Any, place: str) -> np.ndarray:
    name = graph_input.name.lower()
    values = encoded.ids
    if "mask" in name:
        values = encoded.attention_mask
    elif "type" in name:
        values = encoded.type_ids
    elif "position" in name:
        values = range(len(encoded.ids))
    elif np.dtype(graph_input.dtype).kind not in "iu":
        raise UsageError(f"{place}: the graph reads {graph_input.name} of type {graph_input.dtype}, which is no text")
    return np.array([list(values)], dtype=graph_input.dtype)
