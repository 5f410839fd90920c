"""Quantities as a YAML writes them: ``30s``, ``2%``, ``8GB``, whole numbers; each says what fits."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

#: A number of seconds, or hours, minutes and seconds with their letters, at least one of them.
_DURATION_TEXT = r"(\d+(?:\.\d+)?)|(?=\S)(?:(\d+(?:\.\d+)?)\s*h)?\s*(?:(\d+(?:\.\d+)?)\s*m)?\s*(?:(\d+(?:\.\d+)?)\s*s)?"
_DURATION = re.compile(_DURATION_TEXT)
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?b)?", re.IGNORECASE)
EXPONENT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)[eE][+-]?\d+")
_DECIMAL_COMMA = re.compile(r"[+-]?(\d+),(\d+)(\s*\D*)")
_CLOCK = re.compile(r"(\d+):(\d\d)(?::(\d\d))?")
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def describe(value: object) -> str:
    """A value in words, such as ``the text 'abc'`` or ``a list``; with a hint where a number is written otherwise."""
    if isinstance(value, bool):
        return str(value).lower()
    match value:
        case None:
            return "nothing"
        case str():
            return f"the text '{value}'{spelling_hint(value.strip())}"
        case int() | float():
            return f"the number {value}"
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
    return f"'{value}'"


def spelling_hint(text: str) -> str:
    """The way to write a number that a text seems to mean; empty for other texts."""
    if comma := _DECIMAL_COMMA.fullmatch(text):
        return f": with a decimal point it is {comma[1]}.{comma[2]}{comma[3]}"
    if clock := _CLOCK.fullmatch(text):
        first, second, third = clock.groups()
        forms = f"{first}h{second}m{third}s" if third else f"{first}h{second}m or {first}m{second}s"
        return f": as a time it is {forms}"
    return ""


def parse_duration(value: object) -> float:
    """``30s``, ``12m``, ``1.5h``, ``1h30m`` or a number of seconds -> seconds.

    Raises:
        ValueError: for anything else, with what fits.
    """
    seconds = _number(value)
    if isinstance(value, str) and (parts := _DURATION.fullmatch(value.strip())):
        seconds = sum(float(part) * unit for part, unit in zip(parts.groups(), (1, 3600, 60, 1), strict=True) if part)
    if seconds is None or seconds <= 0:
        raise ValueError(
            f"takes a time above 0, such as 30s, 12m, 1.5h or a number of seconds; found {describe(value)}"
        )
    return seconds


def parse_share(value: object) -> float:
    """``2%`` or 0.02 -> 0.02.

    Raises:
        ValueError: for anything else, and outside 0 .. 1, with what fits.
    """
    share = _number(value)
    if isinstance(value, str) and (match := _PERCENT.fullmatch(value.strip())):
        share = float(match[1]) / 100
    if share is None or not 0 < share < 1:
        raise ValueError(f"takes a percentage such as 2%, or a number between 0 and 1; found {describe(value)}")
    return share


def parse_part(value: object) -> float:
    """As :func:`parse_share`, or 0 for nothing of it.

    Raises:
        ValueError: as :func:`parse_share`.
    """
    return 0.0 if _number(value) == 0 else parse_share(value)


def parse_size(value: object) -> int:
    """``12GB``, ``512MiB`` or a number of bytes -> bytes.

    Raises:
        ValueError: for anything else, with what fits.
    """
    size = _number(value)
    if isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        size = float(match[1]) * unit_bytes(match[2] or "B")
    if size is None or size < 1:
        raise ValueError(f"takes a size such as 8GB, 512MB or a number of bytes; found {describe(value)}")
    return int(size)


def unit_bytes(unit: str) -> int:
    """Bytes in one ``B``, ``KB``, ``MiB`` ...; capitals do not matter."""
    unit = unit.lower()
    return int((1024 if "i" in unit else 1000) ** _POWERS[unit.rstrip("b").rstrip("i")])


def _number(value: object) -> float | None:
    """A finite number, or None; YAML's true and false are none, and 1e9 is one although YAML takes it for a text."""
    if isinstance(value, str) and EXPONENT.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _whole(value: object) -> int:
    number = _number(value)
    if number is None or number != int(number):
        quotes = isinstance(value, str) and value.strip().lstrip("+-").isdigit()
        hint = ": leave the quotes out" if quotes else ""
        raise ValueError(f"takes a whole number; found {describe(value)}{hint}")
    return int(number)


def _weight(value: object) -> float:
    number = _number(value)
    if number is None or number < 0:
        raise ValueError(f"takes a number of at least 0; found {describe(value)}")
    return number


def _text(value: object) -> str:
    if not isinstance(value, str):
        hint = "" if value is None or isinstance(value, dict | list) else ": put it into quotes"
        raise ValueError(f"takes text; found {describe(value)}{hint}")  # noqa: TRY004 - as below
    return value


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"takes true or false; found {describe(value)}")  # noqa: TRY004 - pydantic wants ValueError
    return value


def _schema(pattern: str, **number: Any) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"type": "number", **number}, {"type": "string", "pattern": pattern}]})


Whole = Annotated[int, BeforeValidator(_whole)]
Weight = Annotated[float, BeforeValidator(_weight), Field(ge=0)]
Text = Annotated[str, BeforeValidator(_text)]
Switch = Annotated[bool, BeforeValidator(_switch)]
Seconds = Annotated[float, BeforeValidator(parse_duration), _schema(f"^(?:{_DURATION_TEXT})$", exclusiveMinimum=0)]
Share = Annotated[
    float,
    BeforeValidator(parse_share),
    _schema(r"^\d+(\.\d+)?\s*%$", exclusiveMinimum=0, exclusiveMaximum=1),
]
Part = Annotated[
    float,
    BeforeValidator(parse_part),
    _schema(r"^\d+(\.\d+)?\s*%$", minimum=0, exclusiveMaximum=1),
]
Bytes = Annotated[int, BeforeValidator(parse_size), _schema(r"^\d+(\.\d+)?\s*([kKmMgGtT]?i?[bB])?$", minimum=1)]
Count = Annotated[Whole, Field(ge=1)]
