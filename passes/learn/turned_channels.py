"""Channels of cached keys that a rotary embedding turns, read from the graph that it is in.

Case 1: GroupQueryAttention turns the keys itself: the width of its table of cosines tells, a constant or the output of
an ``If`` between constants for short and long texts.
Case 2: a node RotaryEmbedding in front of it does: its table tells.
Case 3: neither does, as in layers without positions: none are.
"""

from __future__ import annotations

import onnx_ir as ir

from olivine.passes.errors import PassRefused

#: Places of the inputs of a GroupQueryAttention, and of a RotaryEmbedding of each domain.
_KEY, _COSINES = 1, 7
_COSINES_OF_ROTARY = {"": 1, "com.microsoft": 2}
#: Operators that may stand between a rotary embedding and what reads the keys.
_PASSING = ("Reshape", "Transpose", "Identity", "Cast", "Squeeze", "Unsqueeze")
_BRANCHES = ("then_branch", "else_branch")


def turned_channels(attention: ir.Node) -> tuple[int, bool]:
    """Count the channels of a head that are turned, from the first on; True besides where neighbours are pairs.

    Args:
        attention: a GroupQueryAttention.

    Raises:
        PassRefused: when the graph does not tell.
    """
    if _flag(attention, "do_rotary"):
        return _width(attention, _COSINES), _flag(attention, "rotary_interleaved")
    node = _producer(attention, _KEY)
    while node is not None and node.op_type in _PASSING:
        node = _producer(node, 0)
    if node is None or node.op_type != "RotaryEmbedding":
        return 0, False
    return _width(node, _COSINES_OF_ROTARY.get(node.domain, 2)), _flag(node, "interleaved")


def _width(node: ir.Node, place: int) -> int:
    """Twice the width of a table: an angle turns two channels."""
    cosines = node.inputs[place] if len(node.inputs) > place else None
    widths = set() if cosines is None else {_columns(value) for value in _sources(cosines)}
    if len(widths) != 1 or (columns := widths.pop()) is None:
        raise PassRefused(
            f"the cache can't be quantized: the rotary embedding of {node.name} reads "
            f"'{'nothing' if cosines is None else cosines.name}', which is no constant table of cosines of one width"
        )
    return 2 * columns


def _sources(value: ir.Value) -> list[ir.Value]:
    """The value itself; or those of both branches that it may be, where an ``If`` chooses it."""
    node, place = value.producer(), value.index()
    if node is None or node.op_type != "If" or place is None:
        return [value]
    return [node.attributes[branch].as_graph().outputs[place] for branch in _BRANCHES]


def _columns(value: ir.Value) -> int | None:
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else int(tensor.shape.numpy()[1])


def _producer(node: ir.Node, place: int) -> ir.Node | None:
    value = node.inputs[place] if len(node.inputs) > place else None
    return None if value is None else value.producer()


def _flag(node: ir.Node, name: str) -> bool:
    attribute = node.attributes.get(name)
    return attribute is not None and bool(attribute.as_int())
