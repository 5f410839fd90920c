"""Axes whose default depends on the machine: in a shared study, the value of the machine that leads it counts."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from olivine.passes.base import Scalar
from olivine.passes.cpu import available_cores, int8_sums_saturate

_THREADS = "threads"


def machine_values() -> dict[str, Scalar]:
    """The values of those axes on this machine."""
    return {_THREADS: available_cores(), "reduce_range": int8_sums_saturate()}


def resolve(
    choice: Mapping[str, Scalar], values: Mapping[str, Scalar], named: Collection[str] = ()
) -> dict[str, Scalar]:
    """A choice as the machine with these values understands it.

    Args:
        choice: a canonical choice.
        values: :func:`machine_values` of the machine that leads.
        named: axes that the study's space names: their values are meant as they are, but for "all cores".
    """
    values_here = {
        axis: value
        for axis, value in values.items()
        if axis in choice and (choice[axis] == 0 if axis == _THREADS else axis not in named)
    }
    return {**choice, **values_here}
