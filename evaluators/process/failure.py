"""ModelProcessFailed: every way in which a model process fails, as one error that names it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from olivine.evaluators.process.lifecycle import how_it_ended
from olivine.evaluators.process.memory_limit import MemoryWatch
from olivine.evaluators.process.servers.provider import CPU, EXIT_PROVIDER, folder_provider
from olivine.passes.errors import Excess, OlivineError, last_words, out_of_memory, unwritable

FailureKind = Literal["crash", "timeout", "memory", "error", "provider"]


class ModelProcessFailed(OlivineError):
    """A model process that died, hung, outgrew its memory or refused.

    Attributes:
        kind: ``crash`` (a signal), ``timeout``, ``memory``, ``provider`` (the requested execution provider does
            not run there) or ``error`` (an exception, or an answer that can't be read).
        tail: the last that the process wrote to stderr; the message has its last line.
        excess: the memory for which it was ended, if that is why.
    """

    def __init__(self, kind: FailureKind, message: str, tail: str = "", excess: Excess | None = None) -> None:
        last = last_words(tail)
        super().__init__(f"{message}: {last}" if last else message)
        self.kind: FailureKind = kind
        self.tail = tail
        self.excess = excess


def name_of(model: Path | None) -> str:
    """Name the process of a model in a message."""
    return f"The process of model '{model}'" if model else "A model process without a model"


def exit_failure(model: Path | None, command: str, code: int, tail: str, memory: MemoryWatch) -> OlivineError:
    """Explain why a process has ended by itself, from its exit code, its last words and its control group.

    Args:
        model: the folder that it holds, if any.
        command: it was to answer.
        code: exit code; negative for a signal.
        tail: the last that it wrote to stderr.
        memory: its watch.
    """
    if (excess := memory.killed()) is not None:
        message = f"{name_of(model)} was ended by the kernel in '{command}': it {excess}"
        return ModelProcessFailed("memory", message, "", excess)
    if code == 1 and (trouble := unwritable(OSError(tail))) is not None:
        return trouble
    how = f"{name_of(model)} {how_it_ended(code)} in '{command}'"
    if not out_of_memory(tail):
        return ModelProcessFailed("crash" if code < 0 else "provider" if code == EXIT_PROVIDER else "error", how, tail)
    if memory.limit is None or (model is not None and folder_provider(model) != CPU):
        return ModelProcessFailed("memory", how, tail)  # the machine's memory, or a device's: no limit of ours
    how += f" for want of memory; its limit is {memory.limit / 1e6:.0f} MB (children.memory)"
    return ModelProcessFailed("memory", how, tail, Excess(max(memory.peak, memory.limit + 1), memory.limit))
