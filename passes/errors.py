"""The errors a person may see, each with the exit code of the command that ends with it."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

_LAST_NUMBER = re.compile(r"\d+(?:\.\d+)?$")


class OlivineError(Exception):
    """An error whose message is written for the person at the terminal."""

    exit_code = 1


class UsageError(OlivineError):
    """A mistake in a config or in arguments: found before any work."""

    exit_code = 2


class SourceError(UsageError):
    """A model that can't be found, reached or read."""


class WrongGraph(UsageError):
    """An exported graph that does not compute what its checkpoint computes: nothing may be built on it."""


class PassRefused(OlivineError):
    """A pass that does not apply to this model; the message says why and what would fit."""

    exit_code = 2


class Unwritable(OlivineError):
    """A disk that is full or must not be written to: no candidate's fault, so it ends the study and not a trial."""


class UnwritableCache(Unwritable):
    """A cache that can't be made or written to, found before any work."""

    exit_code = 2


class NotEnoughDisk(SourceError, Unwritable):
    """A disk that is too small for a model, found before any work."""


#: Error numbers of a disk that takes no more, and of one that takes nothing.
_FULL = ("No space left on device", "Disk quota exceeded", "database or disk is full")
_READ_ONLY = ("Read-only file system", "attempt to write a readonly database")


def unwritable(error: BaseException | None) -> Unwritable | None:
    """The trouble with the disk behind an error, whatever it was wrapped into; None for any other error."""
    while error is not None:
        if isinstance(error, Unwritable):
            return error
        name = getattr(error, "filename", None)
        if (isinstance(error, PermissionError) and name) or any(words in str(error) for words in _READ_ONLY):
            return Unwritable(
                f"{name or 'The study folder or the cache'} can't be written ({error}). Make it writable or name "
                "another folder (--out, OLIVINE_CACHE); every finished trial is kept."
            )
        if any(words in str(error) for words in _FULL):
            where = f"the disk that holds {name}" if name else "a disk"
            return Unwritable(
                f"No space is left on {where}. Every finished trial is kept: free some, and run the same command again."
            )
        error = error.__cause__ or error.__context__
    return None


#: Last words of a process that got no memory: Python and NumPy, C++ (Linux, then Windows), ONNX Runtime's arena.
_NO_MEMORY = ("MemoryError", "bad_alloc", "bad allocation", "Failed to allocate memory for requested buffer of size")


def out_of_memory(output: str) -> bool:
    """True when the last output of a process tells of a failed allocation; ONNX Runtime's may be of a GPU's memory."""
    return any(words in output for words in _NO_MEMORY)


@dataclass(frozen=True)
class Excess:
    """Memory beyond a limit.

    Attributes:
        peak_bytes: memory that a process held.
        limit_bytes: memory that it might have held.
        left_bytes: memory that the machine had left, where that was the limit.
    """

    peak_bytes: int
    limit_bytes: int
    left_bytes: int | None = None

    def __str__(self) -> str:
        if self.left_bytes is not None:
            rest = f"{self.left_bytes / 1e6:.0f} MB of memory were left to the machine"
            return f"held {self.peak_bytes / 1e6:.0f} MB, and {rest}"
        return f"held {self.peak_bytes / 1e6:.0f} MB, its limit is {self.limit_bytes / 1e6:.0f} MB (children.memory)"


def last_words(tail: str) -> str:
    """The last words of a process, in one line: its exception, of however many lines, or its last line."""
    lines = tail.strip().splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    frames = lines[starts[-1] + 1 :] if starts else []
    first = next((number for number, line in enumerate(frames) if not line.startswith(" ")), None)
    return " ".join(line.strip() for line in (lines[-1:] if first is None else frames[first:]))


class BuildFailed(OlivineError):
    """A build that started and did not produce a working model.

    Attributes:
        tail: the last that the process of the build said; the message has its last line.
        excess: the memory for which it was ended, if that is why.
    """

    def __init__(self, message: str, tail: str = "", excess: Excess | None = None) -> None:
        last = last_words(tail)
        super().__init__(f"{message}; it said last: {last}" if last else message)
        self.tail = tail
        self.excess = excess


def did_you_mean(word: object, choices: Iterable[object]) -> str:
    """Name the nearest valid word and all the others.

    Args:
        word: as the YAML or the command line has it.
        choices: valid words, in the order in which they are listed.

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
    number = _LAST_NUMBER.search(word)
    return float(number[0]) if number else None


def _is_number(word: str) -> bool:
    return _LAST_NUMBER.fullmatch(word) is not None
