"""How many weights a model has, told by its checkpoint's size and its config.json before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from olivine.passes.sources.source import Source

#: Bytes of a weight.
WIDTHS = {"float64": 8, "float32": 4, "fp32": 4, "float16": 2, "bfloat16": 2, "fp16": 2, "bf16": 2}
#: The demo's weights after rotation, and its embedding: what is known of it before it is fetched.
_DEMO_PARAMETERS, _DEMO_VOCABULARY, _DEMO_HIDDEN = 163_000_000, 49152, 576
#: Share of the weights in the embedding, where no config.json tells.
_EMBEDDING_SHARE = 0.1


@dataclass(frozen=True)
class Weights:
    """How many weights a model has, and where: ``total`` counts a tied head by itself, as the graph does."""

    total: float
    embedding: float
    vocabulary: int


def count_weights(source: Source) -> Weights:
    """Weights of the float graph, from the size of the checkpoint and its config.json."""
    if source.kind == "demo":
        return Weights(_DEMO_PARAMETERS, _DEMO_VOCABULARY * _DEMO_HIDDEN, _DEMO_VOCABULARY)
    total = source.weight_bytes / WIDTHS.get(source.dtype, 2)
    config: Mapping[str, Any] = source.config or {}
    text: Mapping[str, Any] = config.get("text_config") or config
    if "vocab_size" not in text or "hidden_size" not in text:
        return Weights(total, _EMBEDDING_SHARE * total, 0)
    vocabulary, hidden = int(text["vocab_size"]), int(text["hidden_size"])
    tied = bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", False)))
    return Weights(total + tied * vocabulary * hidden, vocabulary * hidden, vocabulary)
