"""Builds of plain graphs in child processes; a request file alone reproduces its build."""

from __future__ import annotations

import json
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from olivine.passes.artifact import ModelArtifact, write_atomic
from olivine.passes.cache import Cache
from olivine.passes.errors import BuildFailed, OlivineError
from olivine.passes.plain.axes import PlainRecipe
from olivine.passes.plain.source import PlainSource
from olivine.search.build_answers import Built, Refused
from olivine.search.build_process import BuildProcess
from olivine.search.workers import HELD, BuildOutcome


class PlainBuilder:
    """Builds candidates of one source, one child process each.

    Args:
        source: the model.
        cache: where builds are kept.
        folder: where request, response and log files go.
        timeout_s: longest build.
        memory_limit_bytes: a build that outgrows this is ended; None for no limit.
        sizes: of the graph's open axes, for the check of new graphs.
    """

    def __init__(
        self,
        source: PlainSource,
        cache: Cache,
        folder: Path,
        timeout_s: float,
        memory_limit_bytes: int | None,
        sizes: dict[str, int],
    ) -> None:
        self.source, self._cache, self._folder = source, cache, folder
        self._timeout_s, self._limit, self._sizes = timeout_s, memory_limit_bytes, sizes
        self._process: BuildProcess | None = None
        self._held: deque[ExitStack] = deque()
        self._kept = ExitStack()
        #: File with the samples that static ranges are learned from; there once the base is built.
        self.calibrate: Path | None = None

    def request(self, recipe: PlainRecipe) -> dict[str, Any]:
        """The request that builds ``recipe``."""
        return {
            "plain": {"model": self.source.model, "architecture": self.source.architecture, "sizes": self._sizes},
            "recipe": recipe.to_json(),
            "calibrate": str(self.calibrate.resolve()) if self.calibrate and recipe.calibrated else None,
            "cache": str(self._cache.root),
            "cache_max_bytes": self._cache.max_bytes,
        }

    def build(self, recipe: PlainRecipe, name: str) -> BuildOutcome:
        """Build one candidate; ``name`` names its request and response files.

        Raises:
            OlivineError: what the build refused or failed with.
        """
        if self._process is None or not self._process.alive:
            self._end_process()
            self._process = BuildProcess(self._folder, self._limit)
        asked, answered = self._folder / f"{name}.request.json", self._folder / f"{name}.response.json"
        answered.unlink(missing_ok=True)
        write_atomic(asked, json.dumps(self.request(recipe), indent=1))
        try:
            answer, seconds = self._process.run(asked, answered, self._timeout_s)
        except OlivineError:
            self._end_process()
            self._cache.sweep()  # of what it was making
            raise
        if isinstance(answer, Refused):
            raise answer.exception()
        if not isinstance(answer, Built):
            raise BuildFailed(f"the build answered with a {type(answer).__name__}, not with a model")
        artifact = ModelArtifact(Path(answer.path), answer.key, frozenset(answer.holds))
        if artifact.path != self._cache.model_path(answer.key) or not artifact.path.is_dir():
            raise BuildFailed(f"the build answered with '{answer.path}', which is not in the cache")
        self._hold(artifact)
        return BuildOutcome(artifact, answer.passes, seconds, answer.peak_rss_bytes)

    def _hold(self, artifact: ModelArtifact) -> None:
        held = ExitStack()
        held.enter_context(self._cache.hold(artifact.key))
        self._held.append(held)
        if len(self._held) > HELD:
            self._held.popleft().close()

    def keep(self, artifact: ModelArtifact) -> None:
        """Hold an artifact in the cache as long as this builder lives: the base, which every candidate meets."""
        self._kept.enter_context(self._cache.hold(artifact.key))

    def _end_process(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None

    def close(self) -> None:
        """End the process that builds."""
        self._end_process()
        for held in (*self._held, self._kept):
            held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
