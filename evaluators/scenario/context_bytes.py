"""Bytes that a decoder's cache takes for a context, from the inputs of its graph."""

from __future__ import annotations

import math
from pathlib import Path

import onnx_ir as ir

from olivine.passes.sources.genai_folder import read_genai_config

#: Names of the graph's inputs that hold what was computed of earlier tokens begin so.
_PAST = "past"


def context_bytes(folder: Path, tokens: int) -> int:
    """Bytes of keys, values and states for so many tokens of one conversation.

    An input is ``[batch, heads, tokens, features]``; the model builder leaves the features open, which are then those
    of an attention head. Another open dimension is the number of tokens; a state without one counts as it is.

    Args:
        folder: ONNX Runtime GenAI folder.
        tokens: of prompts and answers.
    """
    decoder = read_genai_config(folder)["model"]["decoder"]
    inputs = ir.load(folder / str(decoder["filename"])).graph.inputs
    past = [value for value in inputs if str(value.name).startswith(_PAST)]
    return sum(_bytes(value, tokens, int(decoder["head_size"])) for value in past)


def _bytes(value: ir.Value, tokens: int, head_size: int) -> int:
    if value.shape is None or value.dtype is None:
        raise ValueError(f"the graph's input {value.name} has no shape or no type")
    _, *between, last = value.shape
    sizes = [size if isinstance(size, int) else tokens for size in between]
    features = last if isinstance(last, int) else head_size
    return math.ceil(math.prod(sizes) * features * value.dtype.itemsize)
