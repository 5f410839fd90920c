"""``olivine doctor MODEL``: what of a model is supported, told before any work."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from olivine.passes.errors import SourceError
from olivine.passes.export.mends import rope_parameters, rope_type
from olivine.passes.sources.model_shape import count_weights
from olivine.passes.sources.source import Source, resolve
from olivine.passes.sources.weights.files import WeightFiles
from olivine.passes.sources.weights.fit import check_fit

#: Exit code for a model that is refused.
REFUSED = 2
_FLOAT_BYTES = 4
_TEMPLATES = ("chat_template.jinja", "chat_template.json")


@dataclass(frozen=True)
class Support:
    """A model as olivine reads it, and the proof that a build will give.

    Attributes:
        source: the model.
        weights: a sentence on its weights.
        refused: true where they are not those of its architecture.
        facts: (name, sentence) pairs.
    """

    source: Source
    weights: str
    refused: bool
    facts: tuple[tuple[str, str], ...]

    @property
    def exit_code(self) -> int:
        """0 where the model can be built, 2 where its weights are refused."""
        return REFUSED if self.refused else 0


def examine_model(model: str, revision: str | None = None, trust_remote_code: bool = False) -> Support:
    """Look at a model; nothing is built.

    Args:
        model: as ``model:`` takes it.
        revision: of a hub model.
        trust_remote_code: code of the checkpoint may run.

    Raises:
        SourceError: when there is no such model, its files are not whole, or its architecture can't be exported.
    """
    source = resolve(model, revision=revision, trust_remote_code=trust_remote_code)
    weights, refused = _weights(source)
    return Support(source, weights, refused, tuple(_facts(source)))


def support_table(support: Support) -> Table:
    """The table of ``olivine doctor MODEL``."""
    source = support.source
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False, title=Text(source.name), title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("source", Text(f"{source.kind}, {source.architecture}, weights stored as {source.dtype}"))
    table.add_row("weights", Text(support.weights, style="red" if support.refused else ""))
    for name, words in support.facts:
        table.add_row(name, Text(words))
    return table


def _weights(source: Source) -> tuple[str, bool]:
    """A sentence on the weights, and True where they are not those of the architecture."""
    if source.codes:
        return (
            f"{source.codes}: precision as_it_came keeps the codes; the others start from the floats behind them",
            False,
        )
    if source.kind == "checkpoint" and source.path is not None:
        if not WeightFiles.of(source.path, (file.name for file in source.path.iterdir())).as_they_are:
            return "compared with the architecture by a build, once they have its names", False
        try:
            check_fit(source.path, source.model, source.trust_remote_code)
        except SourceError as error:
            return f"refused: {error}", True
        return "names, shapes and types are those of the architecture", False
    if source.kind == "onnx":
        return "those of the folder", False
    return "compared with the architecture by a build, once they are fetched and converted", False


def _facts(source: Source) -> Iterator[tuple[str, str]]:
    total = count_weights(source).total
    most = "at most " if source.kind == "gguf" else ""
    yield (
        "float graph",
        f"{most}{total / 1e6:,.0f} million weights, {total * _FLOAT_BYTES / 1e9:.2g} GB of disk and memory",
    )
    if source.config is not None:
        yield "positions", _positions(source.config)
    for note in source.notes:
        yield "note", note
    if source.kind == "onnx":
        yield "proof", "none: the folder has no checkpoint; 'olivine verify DIR --against MODEL' compares the two"
    else:
        yield "proof", "a build compares the float graph's logits with those of transformers, and refuses a difference"
    yield "chat template", _template(source)


def _positions(config: Mapping[str, Any]) -> str:
    """Context, sliding window and RoPE of a config.json."""
    text: Mapping[str, Any] = config.get("text_config") or config
    context = text.get("max_position_embeddings")
    parts = [f"context {int(context):,} tokens"] if context else []
    if window := text.get("sliding_window"):
        parts.append(f"sliding window {int(window):,}")
    kinds = sorted({rope_type(about) for about in rope_parameters(config).values()})
    parts.append(f"RoPE {', '.join(kinds)}" if kinds else "no RoPE named")
    return "; ".join(parts)


def _template(source: Source) -> str:
    if source.path is None or source.path.is_file():
        return "read with the tokenizer, once it is fetched"
    if any((source.path / name).is_file() for name in _TEMPLATES):
        return "there"
    config = source.path / "tokenizer_config.json"
    inside = config.is_file() and "chat_template" in json.loads(config.read_text(encoding="utf-8"))
    return "there" if inside else "none: chat and serve send the prompt as it is"
