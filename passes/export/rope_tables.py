"""The cosines and sines of a model's RoPE, computed by transformers' own rotary embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from olivine.passes.errors import PassRefused


@dataclass(frozen=True)
class RopeTable:
    """Cosines and sines of every position of a context.

    Attributes:
        cos: float32 [positions, rotated features / 2], scaled as attention wants it.
        sin: likewise.
    """

    cos: np.ndarray
    sin: np.ndarray


@dataclass(frozen=True)
class RopeTables:
    """The tables of one kind of layer.

    Attributes:
        table: of texts up to ``switch`` tokens.
        long: of longer texts, where they differ.
        switch: the longest text of the first table; None where there is only one.
    """

    table: RopeTable
    long: RopeTable | None = None
    switch: int | None = None

    @property
    def features(self) -> int:
        """Number of features of a head that are rotated."""
        return 2 * int(self.table.cos.shape[1])


def rope_tables(config: Any, positions: int) -> dict[str, RopeTables]:
    """Layer type of the model -> its tables; ``""`` where all layers have the same.

    Args:
        config: the model's config, as transformers parsed it.
        positions: longest text of the graph.

    Raises:
        PassRefused: when the model has no rotary embedding that can be asked.
    """
    rotary = _rotary(config)
    text = config.get_text_config()
    nested = text.rope_parameters if "full_attention" in text.rope_parameters else {"": text.rope_parameters}
    tables = {}
    for kind, about in nested.items():
        if kind and kind not in text.layer_types:
            continue
        switch = int(about["original_max_position_embeddings"]) if about["rope_type"] == "longrope" else positions
        long = _table(rotary, range(positions), kind) if switch < positions else None
        table = _table(rotary, range(min(switch, positions)), kind)
        same = long is None or (
            np.array_equal(long.cos[:switch], table.cos) and np.array_equal(long.sin[:switch], table.sin)
        )
        tables[kind] = RopeTables(long or table) if same else RopeTables(table, long, switch)
    return tables


def _rotary(config: Any) -> Any:
    """The rotary embedding of the model that the config is of."""
    import torch
    from transformers import AutoModelForCausalLM

    text = config.get_text_config()
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(text)
    kinds = {kind for module in model.modules() if (kind := type(module)).__name__.endswith("RotaryEmbedding")}
    if len(kinds) != 1:
        raise PassRefused(f"the RoPE scaling of {type(model).__name__} can't be exported: it has no rotary embedding")
    return kinds.pop()(config=text)


def _table(rotary: Any, positions: Sequence[int], kind: str) -> RopeTable:
    import torch

    ids = torch.tensor(list(positions))[None]
    cos, sin = rotary(torch.zeros(1, 1), ids, **({"layer_type": kind} if kind else {}))
    half = cos.shape[-1] // 2  # the second half repeats the first
    return RopeTable(cos[0, :, :half].numpy().copy(), sin[0, :, :half].numpy().copy())
