"""What a model's process answers, and how that is read: whatever a model has spoiled may answer anything."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Loaded:
    """What loading a model told.

    Attributes:
        load_ms: time to a usable model, in milliseconds, library imports not counted.
        provider: the execution provider that runs it, as ONNX Runtime names it.
        threads: intra-op threads from genai_config.json; None means GenAI's default, which is one.
        vocab_size: number of token ids, from genai_config.json.
        versions: of python, onnxruntime and onnxruntime_genai in that process.
    """

    load_ms: float
    provider: str
    threads: int | None
    vocab_size: int
    versions: dict[str, str]

    @property
    def runtime(self) -> str:
        """The flavours of ONNX Runtime that ran it, with their versions: ``onnxruntime 1.31.1``."""
        return ", ".join(f"{name} {found}" for name, found in sorted(self.versions.items()) if name != "python")


@dataclass(frozen=True)
class ProcessStats:
    """Memory of the model's process.

    Attributes:
        rss_bytes: resident now.
        peak_rss_bytes: the most it ever had resident (VmHWM), or since the last :meth:`ModelProcess.reset_peak`.
        scored: whether quality was scored since the start: its logits are then part of the peak.
        gpu_bytes: what the GPU holds more than before the model was loaded; None where it runs on none.
    """

    rss_bytes: int
    peak_rss_bytes: int
    scored: bool
    gpu_bytes: int | None = None


@dataclass(frozen=True)
class Timing:
    """Times of one visit to a process.

    Attributes:
        ms: milliseconds: the one of a prefill, or one per token of a decode.
        foreign_cores: cores that other programs kept busy meanwhile, on average (0 to the number of cores).
    """

    ms: list[float]
    foreign_cores: float


@dataclass(frozen=True)
class WindowScore:
    """One window of text under one model, against the base; sums in nats over ``tokens`` scored positions."""

    nll: float
    tokens: int
    kl: float
    agree: int
    finite: bool


@dataclass(frozen=True)
class OutputScore:
    """An output beside the base's.

    Attributes:
        cosine: mean over the batch of the cosine between both, each item's numbers as one vector.
        kl: mean divergence in nats of the base's distributions from these, for logits; else 0.
        agree: share of distributions whose likeliest class is the base's, for logits; else 1.
        finite: whether all numbers are.
    """

    cosine: float
    kl: float
    agree: float
    finite: bool


@dataclass(frozen=True)
class Tokens:
    """Token ids of a text."""

    tokens: list[int]


@dataclass(frozen=True)
class Text:
    """What a model wrote."""

    text: str


@dataclass(frozen=True)
class Endings:
    """How likely a model finds given endings of a prompt; one entry per ending.

    Attributes:
        logp: log-likelihood of all its tokens together, in nats.
        greedy: whether each of its tokens is the likeliest one.
    """

    logp: list[float]
    greedy: list[bool]


@dataclass(frozen=True)
class Written:
    """Tokens that a model wrote greedily, and whether it ends here: by an end token or for want of room."""

    tokens: list[int]
    done: bool


@dataclass(frozen=True)
class Done:
    """Whether what was asked for is done."""

    done: bool


def read(kind: type[_Answer], found: object) -> _Answer:
    """A dataclass from what JSON held, each field of the type that it says.

    Raises:
        ValueError: naming the first field that is missing, unknown or of another type; numbers have to be finite.
    """
    if not isinstance(found, Mapping):
        raise ValueError(f"{_short(found)} is no {kind.__name__}")  # noqa: TRY004 - the value of an answer
    wanted = get_type_hints(kind)
    for name in [*wanted, *found]:
        if name not in wanted:
            raise ValueError(f"a {kind.__name__} has no {name!r}")
        if name not in found and not hasattr(kind, name):
            raise ValueError(f"a {kind.__name__} without {name!r}")
        if name in found and not _is(found[name], wanted[name]):
            raise ValueError(f"a {kind.__name__} whose {name!r} is {_short(found[name])}")
    return kind(**found)


def _is(value: object, wanted: Any) -> bool:
    origin, arguments = get_origin(wanted), get_args(wanted)
    if wanted is Any:
        return True
    if origin is types.UnionType:
        return any(_is(value, one) for one in arguments)
    if origin is list:
        return isinstance(value, list) and all(_is(one, arguments[0]) for one in value)
    if origin in (dict, Mapping):
        return isinstance(value, dict) and all(
            _is(name, arguments[0]) and _is(one, arguments[1]) for name, one in value.items()
        )
    if wanted is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return type(value) is wanted


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
