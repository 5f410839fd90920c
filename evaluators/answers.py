"""What a model's process answers."""

from __future__ import annotations

from dataclasses import dataclass


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
class ArmStats:
    """Memory of the model's process.

    Attributes:
        rss_bytes: resident now.
        peak_rss_bytes: the most it ever had resident (VmHWM), or since the last :meth:`Arm.reset_peak`.
        scored: whether quality was scored since the start: its logits are then part of the peak.
        gpu_bytes: what the GPU holds more than before the model was loaded; None where it runs on none.
    """

    rss_bytes: int
    peak_rss_bytes: int
    scored: bool
    gpu_bytes: int | None = None


@dataclass(frozen=True)
class Timing:
    """Times of one visit to an arm.

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
