"""The experts of a mixture: no pass quantizes them, and their share of a model's bytes is said."""

from __future__ import annotations

import math
from pathlib import Path

#: Nodes whose weights are those of experts; a quantized one is a QMoE.
_EXPERTS = "MoE"
_WIDTHS = {1: 4, 10: 2, 16: 2}  # float32, float16, bfloat16, as ONNX counts types


def float_expert_bytes(graph: Path) -> int:
    """Bytes of the weights of experts that a graph holds as floats."""
    import onnx

    model = onnx.load(graph, load_external_data=False).graph
    read = {name for node in model.node if node.op_type == _EXPERTS for name in node.input if name}
    return sum(
        math.prod(weight.dims) * _WIDTHS.get(weight.data_type, 0) for weight in model.initializer if weight.name in read
    )


def experts_note(graph: Path, total_bytes: int) -> str:
    """A sentence on the experts that stayed float; empty where there are none."""
    experts = float_expert_bytes(graph)
    if not experts:
        return ""
    return (
        f"its experts stay float: {experts / 1e6:,.1f} of its {total_bytes / 1e6:,.1f} MB, since no pass quantizes the "
        "experts of a mixture"
    )
