"""Builder: has candidates built in child processes, one at a time, and keeps in the cache what they made.

A build may run while its caller does something else, and is paused while that is being timed. Whatever a build does to
its process (crash, hang, eat the memory) costs one trial.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from olivine.passes.artifact import ModelArtifact
from olivine.passes.errors import BuildFailed, OlivineError
from olivine.passes.quantize.layer_loss import LayerLoss
from olivine.passes.recipe import Recipe
from olivine.passes.store.atomic_files import write_atomic
from olivine.passes.store.cache import Cache
from olivine.search.builds.messages import BuildRefused, Built, ExpectedLosses
from olivine.search.builds.process import BuildProcess

Answer = TypeVar("Answer", Built, ExpectedLosses)
#: Makes the request of a recipe; takes the key of the text or samples that its passes learn from.
MakeRequest = Callable[[Recipe, str | None], Mapping[str, Any]]

#: How many of the last artifacts stay in the cache: the candidate that is measured, its twins, and the one built ahead.
RECENT = 6


@dataclass(frozen=True)
class BuildOutcome:
    """A build that has ended well.

    Attributes:
        artifact: the model in the cache.
        passes: name, params, seconds, cached of each pass.
        seconds: that it ran.
        peak_rss_bytes: peak resident memory of its process.
    """

    artifact: ModelArtifact
    passes: list[dict[str, Any]]
    seconds: float
    peak_rss_bytes: int


class Builder:
    """Builds candidates of one source in one resident process, which forks for each.

    Args:
        request: makes the request of a recipe; as a file it reproduces the build.
        cache: where builds are kept.
        folder: where request, response and log files go.
        timeout_s: longest build.
        memory_limit_bytes: a build that outgrows this is ended; None for no limit.
    """

    def __init__(
        self, request: MakeRequest, cache: Cache, folder: Path, timeout_s: float, memory_limit_bytes: int | None
    ) -> None:
        self._request, self._cache, self._folder = request, cache, folder
        self._timeout_s, self._limit = timeout_s, memory_limit_bytes
        self._process: BuildProcess | None = None
        self._waiting = ThreadPoolExecutor(1, "build")
        #: Holds on the last artifacts that were built, and on those that stay as long as the builder.
        self._recent: deque[ExitStack] = deque()
        self._pinned = ExitStack()

    def build(self, recipe: Recipe, name: str, learned: str | None = None) -> BuildOutcome:
        """Build one candidate.

        Args:
            recipe: its steps.
            name: of the request, response and log files.
            learned: key of the text or samples that passes learn from, where the recipe has such a pass.

        Raises:
            OlivineError: the build's own refusal or failure, or BuildFailed for a child that died, hung or outgrew its
                memory, with the tail of its log.
        """
        return self.start(recipe, name, learned).result()

    def start(self, recipe: Recipe, name: str, learned: str | None = None) -> Future[BuildOutcome]:
        """Begin to build one candidate; the result is what :meth:`build` returns or raises. One runs at a time."""
        return self._waiting.submit(self._outcome, self._ready(), self.request(recipe, learned), name)

    def request(self, recipe: Recipe, learned: str | None = None) -> dict[str, Any]:
        """The request that builds ``recipe``; as a file it reproduces the build."""
        return {
            **self._request(recipe, learned if recipe.needs_calibration else None),
            "recipe": recipe.to_json(),
            "cache": str(self._cache.root),
            "cache_max_bytes": self._cache.max_bytes,
            "cache_shared": self._cache.remote.url if self._cache.remote else None,
        }

    def expected_losses(self, recipe: Recipe, learned: str) -> dict[str, LayerLoss]:
        """The loss that each linear layer is expected to have in every format, by its path.

        Raises:
            OlivineError: as :meth:`build`.
        """
        request = {**self.request(recipe), "calibration": learned, "forecast": True}
        answer, _ = self._answer(self._ready(), request, "forecast", ExpectedLosses)
        return answer.by_path()

    def still_has(self, artifact: ModelArtifact) -> bool:
        """True while the cache has an artifact as it was built."""
        return self._cache.get(artifact.key) is not None

    def pin(self, key: str) -> None:
        """Keep an entry that every candidate needs, such as the base, in the cache as long as this builder."""
        self._pinned.enter_context(self._cache.pin(key))

    def prepare(self) -> None:
        """Start the process that builds, which imports its libraries while something else is going on."""
        if self._process is None or not self._process.alive:
            self.cancel()
            self._process = BuildProcess(self._folder, self._limit)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Pause a build that was started: something is being timed."""
        if self._process is not None:
            self._process.pause()
        try:
            yield
        finally:
            if self._process is not None:
                self._process.resume()

    def cancel(self) -> None:
        """End the build that was started, if one runs."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def close(self) -> None:
        """End the process that builds and the thread that waits for it; all builds may be evicted."""
        self.cancel()
        self._waiting.shutdown()
        for hold in (*self._recent, self._pinned):
            hold.close()

    def _ready(self) -> BuildProcess:
        self.prepare()
        assert self._process is not None
        return self._process

    def _outcome(self, process: BuildProcess, request: Mapping[str, Any], name: str) -> BuildOutcome:
        answer, seconds = self._answer(process, request, name, Built)
        artifact = ModelArtifact(Path(answer.path), answer.key, frozenset(answer.holds))
        if artifact.path != self._cache.model_path(answer.key) or not artifact.path.is_dir():
            raise BuildFailed(f"the build answered with '{answer.path}', which is not in the cache")
        self._hold(artifact)
        return BuildOutcome(artifact, answer.passes, seconds, answer.peak_rss_bytes)

    def _answer(
        self, process: BuildProcess, request: Mapping[str, Any], name: str, kind: type[Answer]
    ) -> tuple[Answer, float]:
        """The answer of the process to a request, and the seconds that it took."""
        request_path, response_path = self._folder / f"{name}.request.json", self._folder / f"{name}.response.json"
        response_path.unlink(missing_ok=True)
        write_atomic(request_path, json.dumps(request, indent=1))
        try:
            answer, seconds = process.run(request_path, response_path, self._timeout_s)
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
        hold = ExitStack()
        hold.enter_context(self._cache.pin(artifact.key))
        self._recent.append(hold)
        if len(self._recent) > RECENT:
            self._recent.popleft().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
