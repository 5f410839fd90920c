"""Reading of the messages that child processes write."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from olivine.evaluators.process.messages import Message

_Message = TypeVar("_Message", bound=Message)


def read(kind: type[_Message], content: bytes) -> _Message:
    """Read a message from JSON.

    Raises:
        ValueError: naming the first field that is missing, unknown or of another type.
    """
    message: _Message = _read(kind, content)
    return message


def read_reply(kind: type[_Message], content: bytes) -> tuple[int, _Message]:
    """Read the number of a request and the message that answers it, from ``[number, message]``.

    Raises:
        ValueError: as :func:`read`.
    """
    number, message = _read(tuple[int, kind], content)  # type: ignore[valid-type] # a type that is known when it runs
    return number, message


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _read(kind: Any, content: bytes) -> Any:
    try:
        return _adapter(kind).validate_json(content, strict=True)
    except ValidationError as error:
        first, title = error.errors(include_url=False)[0], error.title
    if first["type"] == "json_invalid":
        raise ValueError(f"{_short(content)}, which is no JSON: {first['ctx']['error']}")
    place = ".".join(map(str, first["loc"])) or "the whole"
    raise ValueError(f"{_short(content)}, which is no {title}: {place}: {first['msg']}")


def _short(content: bytes) -> str:
    text = repr(content)
    return text if len(text) <= 80 else f"{text[:80]}..."
