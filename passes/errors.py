"""The errors a person may see, each with the exit code of the command that ends with it."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable

_LAST_NUMBER = re.compile(r"\d+(?:\.\d+)?$")


class OlivineError(Exception):
    """An error whose message is written for the person at the terminal."""

    exit_code = 1


class UsageError(OlivineError):
    """A mistake in a config or in arguments: found before any work."""

    exit_code = 2


class SourceError(UsageError):
    """A model that can't be found, reached or read."""


class PassRefused(OlivineError):
    """A pass that does not apply to this model; the message says why and what would fit."""


class BuildFailed(OlivineError):
    """A build that started and did not produce a working model.

    Attributes:
        tail: the last that the process of the build said; the message has its last line.
    """

    def __init__(self, message: str, tail: str = "") -> None:
        last = tail.strip().rsplit("\n", 1)[-1].strip()
        super().__init__(f"{message}; it said last: {last}" if last else message)
        self.tail = tail


def did_you_mean(word: object, choices: Iterable[object]) -> str:
    """Name the nearest valid word and all the others.

    Args:
        word: what was found, as the YAML or the command line gave it.
        choices: what fits, in the order in which it is listed.

    Returns:
        A sentence such as ``Did you mean 'int4'? Available: fp32, int8, int4.``
    """
    names = {_spelled(choice): choice for choice in choices}
    near = None if isinstance(word, bool) else nearest(_spelled(word), names)
    quote = "'" if near is not None and isinstance(names[near], str) else ""
    hint = f"Did you mean {quote}{near}{quote}? " if near is not None else ""
    return f"{hint}Available: {', '.join(names)}."


def nearest(word: str, names: Iterable[str]) -> str | None:
    """The name most like ``word``, or None where none is.

    Case, dashes and underscores count for nothing. Among names that are equally like it the one with the
    nearest number wins (``int3`` is nearer ``int4`` than ``int8``), then the first; numbers are compared
    as numbers.
    """
    plain, number = _plain(word), _number(word)
    best, best_score = None, (0.5, -math.inf)
    for name in names:
        other = _number(name)
        distance = abs(number - other) if number is not None and other is not None else math.inf
        alike = difflib.SequenceMatcher(None, plain, _plain(name)).ratio()
        if _is_number(word) and (_is_number(name) or distance == 0):
            alike = 1.0  # 48 is meant as a number, and 4 as the end of int4
        if (alike, -distance) > best_score or (best is None and alike == best_score[0]):
            best, best_score = name, (alike, -distance)
    return best


def _spelled(value: object) -> str:
    """A value as YAML spells it."""
    return str(value).lower() if isinstance(value, bool) else "nothing" if value is None else str(value)


def _plain(word: str) -> str:
    return word.casefold().replace("-", "").replace("_", "").replace(" ", "")


def _number(word: str) -> float | None:
    found = _LAST_NUMBER.search(word)
    return float(found[0]) if found else None


def _is_number(word: str) -> bool:
    return _LAST_NUMBER.fullmatch(word) is not None
