"""Builds in child processes: a request file in, a response file out.

Whatever a build does to its process (crash, hang, eat the memory) costs one trial. A build may run while its caller
does something else, and stand still while that is being timed.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from olivine.passes.artifact import ModelArtifact, write_atomic
from olivine.passes.cache import Cache
from olivine.passes.errors import BuildFailed, OlivineError
from olivine.passes.quantize.expected_loss import LayerLoss
from olivine.passes.recipe import Recipe
from olivine.passes.source import Source
from olivine.search.build_answers import Built, Forecast, Refused
from olivine.search.build_process import BuildProcess

_Answer = TypeVar("_Answer", Built, Forecast)

#: How many of the last artifacts stay in the cache: the candidate that is measured, its twins, and the one built ahead.
HELD = 6


@dataclass(frozen=True)
class BuildOutcome:
    """What a build child made."""

    artifact: ModelArtifact
    passes: list[dict[str, Any]]
    seconds: float
    peak_rss_bytes: int


class Builder:
    """Builds candidates of one source, one child process each.

    Args:
        source: the model.
        cache: where builds are kept.
        folder: where request, response and log files go.
        timeout_s: longest build.
        memory_limit_bytes: a build that outgrows this is ended; None for no limit.
    """

    def __init__(
        self, source: Source, cache: Cache, folder: Path, timeout_s: float, memory_limit_bytes: int | None
    ) -> None:
        self._source, self._cache, self._folder = source, cache, folder
        self._timeout_s, self._limit = timeout_s, memory_limit_bytes
        self._process: BuildProcess | None = None
        self._watchers = ThreadPoolExecutor(1, "build")
        #: The last artifacts that were built, and those that are kept: they stay in the cache.
        self._held: deque[ExitStack] = deque()
        self._kept = ExitStack()
        #: Key of the calibration text, for recipes that learn from text; known once the base is built.
        self.calibration: str | None = None

    def request(self, recipe: Recipe) -> dict[str, Any]:
        """The request that builds ``recipe``; as a file it reproduces the build."""
        return {
            "model": self._source.model,
            "revision": self._source.revision,
            "trust_remote_code": self._source.trust_remote_code,
            "recipe": recipe.to_json(),
            "calibration": self.calibration if recipe.needs_calibration else None,
            "cache": str(self._cache.root),
            "cache_max_bytes": self._cache.max_bytes,
            "cache_shared": self._cache.shared.url if self._cache.shared else None,
        }

    def still_has(self, artifact: ModelArtifact) -> bool:
        """Whether the cache still has what was built, as it was built."""
        return self._cache.get(artifact.key) is not None

    def prepare(self) -> None:
        """Start the process that builds, which imports its libraries while something else is going on."""
        if self._process is None or not self._process.alive:
            self._end_process()
            self._process = BuildProcess(self._folder, self._limit)

    def build(self, recipe: Recipe, name: str) -> BuildOutcome:
        """Build one candidate; ``name`` names its request, response and log files.

        Raises:
            OlivineError: what the build refused or failed with, or BuildFailed for a child that died, hung or
                outgrew its memory, with the tail of what it said.
        """
        return self.start(recipe, name).result()

    def start(self, recipe: Recipe, name: str) -> Future[BuildOutcome]:
        """Begin to build one candidate; the result is what :meth:`build` returns or raises. One runs at a time."""
        return self._watchers.submit(self._run, self._ready(), self.request(recipe), name)

    def forecast(self, recipe: Recipe) -> dict[str, LayerLoss]:
        """What each linear layer is expected to lose in every format, by its path.

        Raises:
            OlivineError: as :meth:`build`.
        """
        request = {**self.request(recipe), "calibration": self.calibration, "forecast": True}
        answer, _ = self._answer(self._ready(), request, "forecast", Forecast)
        try:
            return answer.by_path()
        except ValueError as error:
            raise BuildFailed(f"the build answered with {error}") from error

    def _ready(self) -> BuildProcess:
        self.prepare()
        assert self._process is not None
        return self._process

    def _run(self, process: BuildProcess, request: Mapping[str, Any], name: str) -> BuildOutcome:
        answer, seconds = self._answer(process, request, name, Built)
        artifact = ModelArtifact(Path(answer.path), answer.key, frozenset(answer.holds))
        if artifact.path != self._cache.model_path(answer.key) or not artifact.path.is_dir():
            raise BuildFailed(f"the build answered with '{answer.path}', which is not in the cache")
        self._hold(artifact)
        return BuildOutcome(artifact, answer.passes, seconds, answer.peak_rss_bytes)

    def _answer(
        self, process: BuildProcess, request: Mapping[str, Any], name: str, kind: type[_Answer]
    ) -> tuple[_Answer, float]:
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
        if isinstance(answer, Refused):
            raise answer.exception()
        if not isinstance(answer, kind):
            raise BuildFailed(f"the build answered with a {type(answer).__name__}, not with a {kind.__name__}")
        return answer, seconds

    def _hold(self, artifact: ModelArtifact) -> None:
        held = ExitStack()
        held.enter_context(self._cache.hold(artifact.key))
        self._held.append(held)
        if len(self._held) > HELD:
            self._held.popleft().close()

    def keep(self, key: str) -> None:
        """Hold what every candidate meets, the base and the calibration text, in the cache while this builder lives."""
        self._kept.enter_context(self._cache.hold(key))

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Meanwhile a build that was started does not run: something is being timed."""
        if self._process is not None:
            self._process.pause()
        try:
            yield
        finally:
            if self._process is not None:
                self._process.resume()

    def abandon(self) -> None:
        """End the build that was started, if one runs."""
        self._end_process()

    def _end_process(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None

    def close(self) -> None:
        """End the process that builds."""
        self._end_process()
        self._watchers.shutdown()
        for held in (*self._held, self._kept):
            held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
