"""The shapes of a model's linear layers, from its config.json: what is known before its float graph is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from olivine.passes.sources.source import Source

Shape = tuple[int, int]
#: The demo model, before it is fetched.
_DEMO = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
}
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


def config_shapes(source: Source | None) -> list[Shape]:
    """The shapes that a decoder of this config.json usually has, with q, k and v in one layer; the head last.

    Args:
        source: the model; None, or one that has no such config, stands for a usual model.
    """
    known: Mapping[str, Any] = (source.config if source is not None else None) or {}
    config = _DEMO if source is not None and source.kind == "demo" else known.get("text_config") or known
    if not config.keys() >= _NEEDED:
        config = _USUAL
    hidden, inner, heads = (int(config[n]) for n in ("hidden_size", "intermediate_size", "num_attention_heads"))
    shared = int(config.get("num_key_value_heads") or heads)
    width = int(config.get("head_dim") or hidden // heads)
    layer = [(hidden, (heads + 2 * shared) * width), (heads * width, hidden), *[(hidden, inner)] * 2, (inner, hidden)]
    return layer * int(config["num_hidden_layers"]) + [(hidden, int(config["vocab_size"]))]
