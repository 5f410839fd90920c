"""Requests to the process that builds: a request file in, a response file out, whatever kind of model it is.

Whatever a build does to its process (crash, hang, eat the memory) costs one trial.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from olivine.passes.artifact import ModelArtifact
from olivine.passes.errors import BuildFailed, OlivineError
from olivine.passes.store.atomic_files import write_atomic
from olivine.passes.store.cache import Cache
from olivine.search.builds.messages import BuildRefused, Built, ExpectedLosses
from olivine.search.builds.process import BuildProcess

Answer = TypeVar("Answer", Built, ExpectedLosses)

#: How many of the last artifacts stay in the cache: the candidate that is measured, its twins, and the one built ahead.
HELD = 6


@dataclass(frozen=True)
class BuildOutcome:
    """What a build child made."""

    artifact: ModelArtifact
    passes: list[dict[str, Any]]
    seconds: float
    peak_rss_bytes: int


class BuildClient:
    """Has requests answered by one resident process, and holds what they made.

    Args:
        cache: where builds are kept.
        folder: where request, response and log files go.
        timeout_s: longest build.
        memory_limit_bytes: a build that outgrows this is ended; None for no limit.
    """

    def __init__(self, cache: Cache, folder: Path, timeout_s: float, memory_limit_bytes: int | None) -> None:
        self._cache, self._folder = cache, folder
        self._timeout_s, self._limit = timeout_s, memory_limit_bytes
        self._process: BuildProcess | None = None
        #: The last artifacts that were built, and those that are kept: they stay in the cache.
        self._held: deque[ExitStack] = deque()
        self._kept = ExitStack()

    def still_has(self, artifact: ModelArtifact) -> bool:
        """Whether the cache still has what was built, as it was built."""
        return self._cache.get(artifact.key) is not None

    def prepare(self) -> None:
        """Start the process that builds, which imports its libraries while something else is going on."""
        if self._process is None or not self._process.alive:
            self._end_process()
            self._process = BuildProcess(self._folder, self._limit)

    def ready(self) -> BuildProcess:
        """The process, started where there is none."""
        self.prepare()
        assert self._process is not None
        return self._process

    def outcome(self, process: BuildProcess, request: Mapping[str, Any], name: str) -> BuildOutcome:
        """What the process builds by a request; the file ``NAME.request.json`` reproduces it.

        Raises:
            OlivineError: what the build refused or failed with, or BuildFailed for a child that died, hung or
                outgrew its memory, with the tail of what it said.
        """
        answer, seconds = self.answer(process, request, name, Built)
        artifact = ModelArtifact(Path(answer.path), answer.key, frozenset(answer.holds))
        if artifact.path != self._cache.model_path(answer.key) or not artifact.path.is_dir():
            raise BuildFailed(f"the build answered with '{answer.path}', which is not in the cache")
        self._hold(artifact)
        return BuildOutcome(artifact, answer.passes, seconds, answer.peak_rss_bytes)

    def answer(
        self, process: BuildProcess, request: Mapping[str, Any], name: str, kind: type[Answer]
    ) -> tuple[Answer, float]:
        """What the process answers to a request, and the seconds that it took."""
        asked, answered = self._folder / f"{name}.request.json", self._folder / f"{name}.response.json"
        answered.unlink(missing_ok=True)
        write_atomic(asked, json.dumps(request, indent=1))
        try:
            answer, seconds = process.run(asked, answered, self._timeout_s)
        except OlivineError:
            process.close()
            self._cache.sweep()  # of what it was making
            raise
        if isinstance(answer, BuildRefused):
            raise answer.exception()
        if not isinstance(answer, kind):
            raise BuildFailed(f"the build answered with a {type(answer).__name__}, not with a {kind.__name__}")
        return answer, seconds

    def _hold(self, artifact: ModelArtifact) -> None:
        held = ExitStack()
        held.enter_context(self._cache.pin(artifact.key))
        self._held.append(held)
        if len(self._held) > HELD:
            self._held.popleft().close()

    def keep(self, key: str) -> None:
        """Hold what every candidate meets, the base and the calibration text, in the cache while this builder lives."""
        self._kept.enter_context(self._cache.pin(key))

    def _end_process(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None

    def close(self) -> None:
        """End the process that builds; what was held may be evicted."""
        self._end_process()
        for held in (*self._held, self._kept):
            held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
