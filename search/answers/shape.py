"""Shape: an answer for other programs, with named fields; and the shape of a measurement in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, RootModel

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.stats import Interval


class Shape(BaseModel):
    """An object of an answer: it has these fields, always all of them, and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


#: An answer as a whole: an object, or a list or mapping of them.
Answer = Shape | RootModel[Any]


class Measured(Shape):
    """A number with its 95 % interval. Ends are null where they are not known."""

    value: float | None
    low: float | None
    high: float | None
    unit: str

    @classmethod
    def of(cls, measurement: Measurement) -> Measured:
        """The value, ends and unit of a measurement."""
        return cls(value=measurement.value, low=measurement.low, high=measurement.high, unit=measurement.unit)

    @classmethod
    def interval(cls, interval: Interval, unit: str) -> Measured:
        """An estimate in a unit."""
        return cls(value=interval.value, low=interval.low, high=interval.high, unit=unit)


def measured(metrics: Mapping[str, Measurement]) -> dict[str, Measured]:
    """Metric -> its number, for each measurement."""
    return {name: Measured.of(measurement) for name, measurement in metrics.items()}


def to_json(answer: Answer) -> str:
    """An answer as strict JSON; numbers that JSON has no word for are null."""
    return answer.model_dump_json(indent=1) + "\n"
