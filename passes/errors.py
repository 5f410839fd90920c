"""The errors a person may see, each with the exit code of the command that ends with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
    """A build that started and did not produce a working model."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Name the nearest valid word and all the others.

    Returns:
        A sentence such as ``Did you mean 'int4'? Available: fp32, int8, int4.``
    """
    names = [str(choice) for choice in choices]
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    hint = f"Did you mean '{near[0]}'? " if near else ""
    return f"{hint}Available: {', '.join(names)}."
