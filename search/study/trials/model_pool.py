"""The processes that run the models of a study: each with its provider's interpreter, and a spare one ahead of time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from olivine.evaluators.process.client import Loop, ModelProcess

CPU = "cpu"


@dataclass(frozen=True)
class ProcessOptions:
    """Limits and loop of every model process of a study.

    Attributes:
        loop: runs the models; the same for all, so that like is compared with like.
        timeout_s: longest wait for an answer.
        memory_limit_bytes: a process that outgrows this is ended; None for no limit.
        pythons: provider -> interpreter that runs its models, where it is another one than this.
    """

    loop: Loop
    timeout_s: float = 300.0
    memory_limit_bytes: int | None = None
    pythons: Mapping[str, str] = field(default_factory=dict)

    def of(self, provider: str) -> dict[str, Any]:
        """The options for a provider's models, as :meth:`ModelProcess.start` takes them."""
        own = self.pythons.get(provider)
        shared = {"loop": self.loop, "timeout_s": self.timeout_s, "memory_limit_bytes": self.memory_limit_bytes}
        return shared if own is None else {**shared, "python": own}


class ModelPool:
    """Gives out processes without a model. A spare one imports its libraries while something else goes on."""

    def __init__(self, options: ProcessOptions) -> None:
        self.options = options
        self._spare: ModelProcess | None = None

    def prepare(self) -> None:
        """Start the spare process, where there is none."""
        if self._spare is None:
            self._spare = ModelProcess.start(**self.options.of(CPU))

    def take(self, provider: str) -> ModelProcess:
        """A process for one model: the spare one, unless the provider has an interpreter of its own."""
        if provider not in self.options.pythons and self._spare is not None:
            process, self._spare = self._spare, None
            if process.usable:
                return process
            process.close()
        return ModelProcess.start(**self.options.of(provider))

    def open(self, provider: str, folder: Path) -> ModelProcess:
        """A process that was started for this model alone, and has loaded it."""
        return ModelProcess.open(folder, **self.options.of(provider))

    def close(self) -> None:
        """End the spare process."""
        if self._spare is not None:
            self._spare.close()
            self._spare = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
