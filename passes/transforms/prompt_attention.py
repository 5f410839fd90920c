"""Attention over a prompt: in tiles, or all scores of a head at once.

ONNX Runtime reads a prompt in tiles of keys, with a softmax that is corrected as it goes (FlashAttention-2, arXiv
2307.08691). Where caches are large, the plain form is faster: all scores of a head, one softmax, one product. ONNX
Runtime takes it where attention has a sink (``GroupQueryAttention``, input ``head_sink``): a score that every row's
softmax counts, and that brings no value. With a sink of the least number there is, its share is zero, and the results
are those of the plain form without one.

Its memory grows with tokens read at once times tokens in the context, for each head: 4 bytes * 9 * 2048^2 = 151 MB for
a prompt of 2048 tokens of the demo model, 38 MB in pieces of 512 (``chunk_size``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from olivine.passes.base import Axis, Choice, WiringPass
from olivine.passes.errors import PassRefused
from olivine.passes.graph import add_initializer

#: Places of inputs of GroupQueryAttention (ONNX Runtime's ContribOperators.md).
_PAST_KEY, _HEAD_SINK = 3, 11


@dataclass(frozen=True)
class WholeScores(WiringPass):
    """Compute all scores of a head at once."""

    name: ClassVar[str] = "whole_scores"
    requires: ClassVar[frozenset[str]] = frozenset({"onnx"})
    axes: ClassVar[tuple[Axis, ...]] = (
        Axis(
            "prompt_attention",
            "choice",
            "tiled",
            "how attention over a prompt is computed: tiled, or whole, which is faster on some CPUs and whose memory "
            "grows with the square of the tokens that are read at once; set chunk_size too where prompts are long",
            ("tiled", "whole"),
            applies=lambda choice: choice.get("provider") == "cpu",
            later=True,
        ),
    )

    @classmethod
    def from_choice(cls, choice: Choice) -> WholeScores | None:
        """The pass for ``prompt_attention: whole``."""
        return cls() if choice.get("prompt_attention") == "whole" else None

    def rewire(self, model: ir.Model) -> None:
        """Give every GroupQueryAttention that is tiled a sink that counts nothing.

        Raises:
            PassRefused: when the graph has no such attention.
        """
        attentions = [node for node in model.graph if node.op_type == "GroupQueryAttention"]
        if not attentions:
            raise PassRefused(f"{self.name}: the graph has no GroupQueryAttention, so its attention is not tiled")
        sinks: dict[int, ir.Value] = {}
        for node in attentions:
            if not _is_tiled(node):
                continue
            heads = node.attributes["num_heads"].as_int()
            if heads not in sinks:
                sinks[heads] = _no_sink(model, heads)
            node.resize_inputs(max(len(node.inputs), _HEAD_SINK + 1))
            node.replace_input_with(_HEAD_SINK, sinks[heads])


def _no_sink(model: ir.Model, heads: int) -> ir.Value:
    """A sink for so many heads whose share of every softmax is zero."""
    least = np.full(heads, np.finfo(np.float32).min / 2, np.float32)
    return add_initializer(model, f"attention.no_sink.{heads}", ir.DataType.FLOAT, (heads,), lambda: least)


def _is_tiled(node: ir.Node) -> bool:
    """True where ONNX Runtime computes this attention in tiles: of float32, without cap, smooth softmax and sink."""
    inputs = [*node.inputs, *[None] * (_HEAD_SINK + 1 - len(node.inputs))]
    softcap, smooth = node.attributes.get("softcap"), node.attributes.get("smooth_softmax")
    capped = (softcap is not None and softcap.as_float() > 0) or (smooth is not None and smooth.as_int() > 0)
    past = inputs[_PAST_KEY]
    narrow = past is not None and past.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    return inputs[_HEAD_SINK] is None and not capped and not narrow
