"""The precisions that store weights as integers."""

from __future__ import annotations

from olivine.passes.base import Choice

#: Precision -> bits of all weights; ``mixed`` has its own for each layer.
INTEGER_BITS = {"int4": 4, "int8": 8}
MIXED = "mixed"
#: The codes of a checkpoint that is quantized already.
AS_IT_CAME = "as_it_came"


def is_integer(choice: Choice) -> bool:
    """True when the chosen precision stores weights as integers."""
    return choice.get("precision") in (*INTEGER_BITS, MIXED)


def has_codes(choice: Choice) -> bool:
    """True when the chosen precision stores weights as integers, be they its own or those of the checkpoint."""
    return is_integer(choice) or choice.get("precision") == AS_IT_CAME


def is_uniform(choice: Choice) -> bool:
    """True when all linear layers are quantized alike, as most tools do: one width, float activations."""
    alike = choice.get("lm_head", "same") in ("same", choice.get("precision"))
    return choice.get("precision") in INTEGER_BITS and alike and choice.get("activations", "float") == "float"


def is_mixed(choice: Choice) -> bool:
    """True when each layer has a width of its own."""
    return choice.get("precision") == MIXED
