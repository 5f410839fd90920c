"""Reading of the messages that child processes write."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from olivine.evaluators.process.messages import Message

_Message = TypeVar("_Message", bound=Message)
#: Type -> what reads it; made once for each type.
_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)


def read(kind: type[_Message], content: bytes) -> _Message:
    """Read a message from JSON.

    Raises:
        ValueError: naming the first field that is missing, unknown or of another type.
    """
    try:
        message: _Message = _adapter(kind).validate_json(content, strict=True)
    except ValidationError as error:
        raise ValueError(_mistake(kind, error.errors()[0], content, 0)) from None
    return message


def read_reply(kind: type[_Message], content: bytes) -> tuple[int, _Message]:
    """Read the number of a request and the message that answers it, from ``[number, message]``.

    Raises:
        ValueError: as :func:`read`.
    """
    try:
        number, message = _adapter(tuple[int, kind]).validate_json(content, strict=True)  # type: ignore[valid-type]
    except ValidationError as error:
        raise ValueError(_mistake(kind, error.errors()[0], content, 1)) from None
    return number, message


def _mistake(kind: type[Message], first: ErrorDetails, content: bytes, depth: int) -> str:
    """Name the first mistake in a message that lies so deep in the JSON."""
    if first["type"] == "json_invalid":
        return f"what is no JSON: {_short(content)}"
    place = ".".join(map(str, first["loc"][depth:]))
    if not place:
        return f"what is no {kind.__name__}: {_short(content)}"
    if first["type"] == "missing":
        return f"a {kind.__name__} without '{place}'"
    return f"a {kind.__name__} whose '{place}' is {_short(first['input'])}: {first['msg']}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
