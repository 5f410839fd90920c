"""Process protocols: the part of a model process that each evaluator uses.

:class:`olivine.evaluators.process.client.ModelProcess` is all of them; a simulated process in a test is one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Protocol

from olivine.evaluators.process.messages import (
    Loaded,
    Loglikelihoods,
    OutputScore,
    ProcessStats,
    TimedAnswer,
    Timing,
    WindowScore,
)


class LoadedProcess(Protocol):
    """A process whose memory is measured."""

    @property
    def folder(self) -> Path | None:
        """Folder of the model; None before one is loaded."""

    @property
    def loaded(self) -> Loaded | None:
        """The model as it was loaded; None before one is."""

    def stats(self) -> ProcessStats:
        """Memory of the process."""

    def reset_peak(self) -> bool:
        """Let the peak start anew; False where the kernel does not allow it."""

    def prefill(self, tokens: Sequence[int], room: int = 64) -> Timing:
        """Run a prompt to its first token."""

    def decode(self, steps: int) -> Timing:
        """Generate further tokens."""


class DeployedProcess(Protocol):
    """A process whose folder is run in another one, as it is deployed."""

    @property
    def folder(self) -> Path | None:
        """Folder of the model; None before one is loaded."""

    @property
    def loaded(self) -> Loaded | None:
        """The model as it was loaded; None before one is."""

    @property
    def loop(self) -> str:
        """Runtime of the model."""

    @property
    def adapter(self) -> Path | None:
        """File of the LoRA adapter that is active; None for none."""

    @property
    def python(self) -> str:
        """The interpreter that runs it."""

    @property
    def timeout_s(self) -> float:
        """Longest wait for the answer to one request."""

    @property
    def memory_limit_bytes(self) -> int | None:
        """Bytes that a process may hold; None for as much as the machine can spare."""


class LoadedGraph(Protocol):
    """A process whose graph's memory is measured."""

    @property
    def loaded(self) -> Loaded | None:
        """The graph as it was loaded; None before one is."""
        ...

    def stats(self) -> ProcessStats:
        """Memory of the process."""
        ...

    def run(self, feeds: Path, number: int, times: int) -> Timing:
        """Run the graph on one feed."""
        ...


class InterleavedProcess(Protocol):
    """A process that is timed beside another one: only one of them runs at a time."""

    @property
    def load_seconds(self) -> float:
        """Seconds that the model took to load."""

    @property
    def threads(self) -> int:
        """Threads of the model, 0 for as many as there are cores."""

    @property
    def usable(self) -> bool:
        """True while it can take a request."""

    def pin(self, cores: Collection[int]) -> None:
        """Let the thread that answers run on these cores alone."""

    def reserve(self, tokens: int) -> bool:
        """Hold memory for prompts of so many tokens, 0 to give it back; False where not all of it is held."""

    def restart(self) -> None:
        """Start a fresh process, without the model."""

    def reload(self) -> None:
        """Load the model into it."""

    def pause(self) -> None:
        """Let the process stand still until the next request, or :meth:`resume`."""

    def resume(self) -> None:
        """Let it run again."""

    def raise_priority(self) -> bool:
        """Let the process go before other programs; False where the system does not allow it."""

    def restore_priority(self) -> None:
        """Let the process wait for its turn like any other."""


class TimedProcess(InterleavedProcess, Protocol):
    """A process whose language model is timed."""

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""

    def prefill(self, tokens: Sequence[int], room: int = 64) -> Timing:
        """Run a prompt to its first token."""

    def decode(self, steps: int) -> Timing:
        """Generate further tokens."""


class AnsweringProcess(TimedProcess, Protocol):
    """A process whose language model is timed, also on whole answers."""

    @property
    def folder(self) -> Path | None:
        """Folder of the model; None before one is loaded."""

    def answer(self, tokens: Sequence[int], most: int, ngram_size: int = 0, max_draft_tokens: int = 4) -> TimedAnswer:
        """Answer a prompt greedily, with guesses from n-grams of so many tokens or without."""


class GraphProcess(InterleavedProcess, Protocol):
    """A process whose graph is timed on feeds."""

    def run(self, feeds: Path, number: int, times: int) -> Timing:
        """Time runs on one feed."""


class ScoringProcess(Protocol):
    """A process whose language model is scored on windows of text."""

    def reference(self, windows: Sequence[tuple[Sequence[int], int]], path: Path, top_k: int) -> None:
        """Run the windows as the base, and store the file with which candidates are compared."""

    def score(self, path: Path, window: int) -> WindowScore:
        """Score one stored window."""


class OutputProcess(Protocol):
    """A process whose graph's outputs are stored and compared."""

    def outputs(self, feeds: Path, count: int, path: Path, output: str | None) -> None:
        """Write the graph's output for each of the first feeds."""

    def compare(
        self, feeds: Path, number: int, stored: Path, output: str | None, logits: bool, apart: bool = False
    ) -> OutputScore:
        """Compare an output with a stored one."""


class GeneratingProcess(Protocol):
    """A process whose language model answers tasks."""

    def loglikelihoods(self, tokens: Sequence[int], continuations: Sequence[Sequence[int]]) -> Loglikelihoods:
        """Log-likelihoods of continuations of a prompt."""

    def generate_until(
        self, tokens: Sequence[int], max_new_tokens: int, until: Callable[[list[int]], bool], steps: int = 16
    ) -> list[int]:
        """Continue a prompt greedily."""
