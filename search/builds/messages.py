"""The answers of the process that builds: each a JSON file of one of these."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from olivine.evaluators.process.answers import read
from olivine.evaluators.process.messages import Message
from olivine.passes import errors
from olivine.passes.errors import OlivineError
from olivine.passes.quantize.layer_loss import LayerLoss


@dataclass(frozen=True)
class Built(Message):
    """A model in the cache.

    Attributes:
        path: its folder.
        key: of its entry.
        holds: facts that hold of it.
        passes: name, params, seconds and whether it came from the cache, of every pass.
        peak_rss_bytes: of the build.
    """

    path: str
    key: str
    holds: list[str]
    passes: list[dict[str, Any]]
    peak_rss_bytes: int


@dataclass(frozen=True)
class BuildRefused(Message):
    """An error of ours, by the name of its class."""

    error: str
    message: str
    peak_rss_bytes: int

    def exception(self) -> OlivineError:
        """The error that the process met."""
        kind = getattr(errors, self.error, None)
        if isinstance(kind, type) and issubclass(kind, OlivineError):
            return kind(self.message)
        return OlivineError(self.message)


@dataclass(frozen=True)
class ExpectedLosses(Message):
    """The expected loss of every layer in every format, each as a :class:`LayerLoss`."""

    losses: list[LayerLoss]
    peak_rss_bytes: int

    def by_path(self) -> dict[str, LayerLoss]:
        """The losses by the path of their layer."""
        return {loss.path: loss for loss in self.losses}


BuildAnswer = Built | BuildRefused | ExpectedLosses


def parse(content: bytes) -> BuildAnswer:
    """The answer in the content of a file.

    Raises:
        ValueError: when it holds none; the message names the mistake.
    """
    try:
        answer = json.loads(content)
    except ValueError as error:
        raise ValueError(f"what is no JSON ({error})") from error
    if not isinstance(answer, dict):
        raise ValueError(f"{content[:80]!r}, which is no answer")  # noqa: TRY004 - of the text, not of an argument
    if "error" in answer:
        return read(BuildRefused, content)
    return read(ExpectedLosses, content) if "losses" in answer else read(Built, content)
