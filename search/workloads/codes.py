"""Refusing ``precision: as_it_came`` for a model that brought no codes."""

from __future__ import annotations

from typing import Any

from olivine.passes.errors import UsageError
from olivine.passes.precisions import AS_IT_CAME
from olivine.passes.sources.source import Source


def check_codes(precisions: Any, source: Source, place: str = "space.precision") -> None:
    """Refuse a model whose weights are floats where a study wants its codes.

    Args:
        precisions: a value or a list, as a YAML has it.
        source: the model.
        place: beginning of the message.

    Raises:
        UsageError: with what fits.
    """
    if source.codes or AS_IT_CAME not in (precisions if isinstance(precisions, list) else [precisions]):
        return
    raise UsageError(
        f"{place}: '{AS_IT_CAME}' takes the codes of a checkpoint that is quantized already (AWQ, GPTQ, AutoRound, "
        f"compressed-tensors), and the weights of {source.name} are floats. Use int8, int4 or mixed."
    )
