"""The answers of model processes: one type a command, written by a server and read by the client.

Imported by children under interpreters that have no olivine: the standard library alone. How the client reads them is
in :mod:`olivine.evaluators.process.answers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar


class Message:
    """JSON of a child process: a model may have spoiled it, so every field is of its very type, and numbers finite."""

    __pydantic_config__: ClassVar[Mapping[str, object]] = {"strict": True, "extra": "forbid", "allow_inf_nan": False}


@dataclass(frozen=True)
class Done(Message):
    """Tells whether the command could do its work."""

    done: bool


@dataclass(frozen=True)
class Loaded(Message):
    """A model that is ready.

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
        return ", ".join(f"{name} {number}" for name, number in sorted(self.versions.items()) if name != "python")


@dataclass(frozen=True)
class ProcessStats(Message):
    """Memory of the model's process.

    Attributes:
        rss_bytes: resident now.
        peak_rss_bytes: the most it ever had resident (VmHWM), or since the last :meth:`ModelProcess.reset_peak`.
        scored: whether quality was scored since the start: its logits are then part of the peak.
        gpu_bytes: bytes on the GPU beyond those before the model was loaded; None where it runs on none.
    """

    rss_bytes: int
    peak_rss_bytes: int
    scored: bool
    gpu_bytes: int | None = None


@dataclass(frozen=True)
class DeployedRun(Message):
    """A model folder as it ran through a scenario, in a process of its own.

    Attributes:
        peak_rss_bytes: the most that the process ever had resident (VmHWM).
        loaded_rss_bytes: resident once the model was loaded.
        load_ms: time to load model and tokenizer.
        first_ms: time to the first token of each answer.
        turn_ms: time of each turn, prompt and answer.
        cpu_ms: CPU time of each turn, of all threads.
        tokenizer: ``loaded``, or why GenAI can't read the folder's.
        version: of the GenAI package that ran.
    """

    peak_rss_bytes: int
    loaded_rss_bytes: int
    load_ms: float
    first_ms: list[float]
    turn_ms: list[float]
    cpu_ms: list[float]
    tokenizer: str
    version: str


@dataclass(frozen=True)
class Timing(Message):
    """Times of one visit to a process.

    Attributes:
        ms: milliseconds: the one of a prefill, or one per token of a decode.
        foreign_cores: cores that other programs kept busy meanwhile, on average (0 to the number of cores).
    """

    ms: list[float]
    foreign_cores: float


@dataclass(frozen=True)
class WindowScore(Message):
    """One window of text under one model, against the base; sums in nats over ``tokens`` scored positions."""

    nll: float
    tokens: int
    kl: float
    agree: int
    finite: bool


@dataclass(frozen=True)
class OutputScore(Message):
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
class TokenIds(Message):
    """Token ids of a text."""

    ids: list[int]


@dataclass(frozen=True)
class GeneratedText(Message):
    """The greedy continuation of a prompt, as text."""

    text: str


@dataclass(frozen=True)
class GeneratedTokens(Message):
    """The next tokens of a greedy continuation, and whether it ends here: by an end token or for want of room."""

    ids: list[int]
    finished: bool


@dataclass(frozen=True)
class TimedAnswer(Message):
    """A greedy answer, and the guesses that were made on the way.

    Attributes:
        ids: its tokens.
        ms: from the end of the prompt to the last of them.
        proposed: tokens that were guessed.
        accepted: those of them that were right.
    """

    ids: list[int]
    ms: float
    proposed: int
    accepted: int


@dataclass(frozen=True)
class Loglikelihoods(Message):
    """Log-likelihoods of continuations of a prompt; one entry per continuation.

    Attributes:
        nats: log-likelihood of all its tokens together.
        greedy: whether each of its tokens is the likeliest one.
    """

    nats: list[float]
    greedy: list[bool]
