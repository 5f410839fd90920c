"""Weights and shapes of a model, from its checkpoint's size and its config.json: known before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from olivine.passes.artifact import GENAI_CONFIG
from olivine.passes.graph import HEAD
from olivine.passes.sources.json_file import read_json
from olivine.passes.sources.source import Source

#: Bytes of a weight.
WIDTHS = {"float64": 8, "float32": 4, "fp32": 4, "float16": 2, "bfloat16": 2, "fp16": 2, "bf16": 2}
#: Share of the weights in the embedding, where no config.json tells.
_EMBEDDING_SHARE = 0.1
#: Input and output features of a linear layer.
Shape = tuple[int, int]
#: The demo's weights after rotation, and its config, before it is fetched.
_DEMO_PARAMETERS = 163_000_000
_DEMO = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
}
_DEMO_CONTEXT = 8192
#: A model of a billion weights, where nothing tells the shapes: which kernels are slow hardly depends on them.
_USUAL = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32768,
}
_NEEDED = _USUAL.keys() - {"num_key_value_heads"}


@dataclass(frozen=True)
class Weights:
    """Numbers of weights of a model, and of its words: ``total`` counts a tied head by itself, as the graph does."""

    total: float
    embedding: float
    vocabulary: int


def count_weights(source: Source) -> Weights:
    """Weights of the float graph, from the size of the checkpoint and its config.json."""
    if source.kind == "demo":
        return Weights(_DEMO_PARAMETERS, _DEMO["vocab_size"] * _DEMO["hidden_size"], _DEMO["vocab_size"])
    total = source.weight_bytes / WIDTHS.get(source.dtype, 2)
    text: Mapping[str, Any] = (source.config or {}).get("text_config") or source.config or {}
    if "vocab_size" not in text or "hidden_size" not in text:
        return Weights(total, _EMBEDDING_SHARE * total, 0)
    vocabulary, hidden = int(text["vocab_size"]), int(text["hidden_size"])
    return Weights(total + _is_tied(source) * vocabulary * hidden, vocabulary * hidden, vocabulary)


def head_is_embedding(source: Source) -> bool:
    """True where the head is surely the embedding, or that of the demo model, which is its embedding rotated."""
    return source.kind == "demo" or _is_tied(source)


def _is_tied(source: Source) -> bool:
    """True where config.json ties head and embedding."""
    config: Mapping[str, Any] = source.config or {}
    text: Mapping[str, Any] = config.get("text_config") or config
    return bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", False)))


def context_length(source: Source) -> int | None:
    """Tokens that a model takes; None where nothing tells before it is loaded."""
    if source.kind == "demo":
        return _DEMO_CONTEXT
    if source.kind == "onnx" and source.path is not None:
        told = read_json(source.path / GENAI_CONFIG)["model"].get("context_length")
    else:
        config: Mapping[str, Any] = source.config or {}
        told = (config.get("text_config") or config).get("max_position_embeddings")
    return None if told is None else int(told)


def config_shapes(source: Source | None) -> list[Shape]:
    """The shapes that a decoder of this config.json usually has, with q, k and v in one layer; the head last.

    Args:
        source: the model; None, or one that has no such config, stands for a usual model.
    """
    return list(config_layers(source).values())


def config_layers(source: Source | None) -> dict[str, Shape]:
    """Path -> shape of the linear layers of such a decoder.

    Args:
        source: as :func:`config_shapes` takes it.
    """
    config = _decoder_config(source)
    hidden, inner = int(config["hidden_size"]), int(config["intermediate_size"])
    heads, shared, width = _heads(config)
    layer = {
        "qkv_proj": (hidden, (heads + 2 * shared) * width),
        "o_proj": (heads * width, hidden),
        "gate_proj": (hidden, inner),
        "up_proj": (hidden, inner),
        "down_proj": (inner, hidden),
    }
    numbers = range(int(config["num_hidden_layers"]))
    stack = {f"layers.{number}/{role}": shape for number in numbers for role, shape in layer.items()}
    return {**stack, HEAD: (hidden, int(config["vocab_size"]))}


def query_heads(source: Source | None) -> int:
    """Heads of queries of such a decoder.

    Args:
        source: as :func:`config_shapes` takes it.
    """
    return _heads(_decoder_config(source))[0]


def knows_shapes(source: Source) -> bool:
    """True where a config.json tells the shapes of a model, so that none are made up."""
    return _decoder_config(source) is not _USUAL


def cached_numbers(source: Source | None) -> int:
    """Numbers that a token leaves in the cache of such a decoder: keys and values of all layers.

    Args:
        source: as :func:`config_shapes` takes it.
    """
    config = _decoder_config(source)
    _, shared, width = _heads(config)
    return 2 * int(config["num_hidden_layers"]) * shared * width


def _decoder_config(source: Source | None) -> Mapping[str, Any]:
    whole: Mapping[str, Any] = (source.config if source is not None else None) or {}
    config = _DEMO if source is not None and source.kind == "demo" else whole.get("text_config") or whole
    return config if config.keys() >= _NEEDED else _USUAL


def _heads(config: Mapping[str, Any]) -> tuple[int, int, int]:
    """Heads of queries, heads of keys and values, and features of a head."""
    heads = int(config["num_attention_heads"])
    shared = int(config.get("num_key_value_heads") or heads)
    return heads, shared, int(config.get("head_dim") or int(config["hidden_size"]) // heads)
