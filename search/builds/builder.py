"""Builds of language models in child processes.

A build may run while its caller does something else, and stand still while that is being timed.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from olivine.passes.quantize.layer_loss import LayerLoss
from olivine.passes.recipe import Recipe
from olivine.passes.sources.source import Source
from olivine.passes.store.cache import Cache
from olivine.search.builds.client import BuildClient, BuildOutcome
from olivine.search.builds.messages import ExpectedLosses


class Builder(BuildClient):
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
        super().__init__(cache, folder, timeout_s, memory_limit_bytes)
        self._source = source
        self._watchers = ThreadPoolExecutor(1, "build")
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
            "cache_shared": self._cache.remote.url if self._cache.remote else None,
        }

    def build(self, recipe: Recipe, name: str) -> BuildOutcome:
        """Build one candidate; ``name`` names its request, response and log files.

        Raises:
            OlivineError: what the build refused or failed with, or BuildFailed for a child that died, hung or
                outgrew its memory, with the tail of what it said.
        """
        return self.start(recipe, name).result()

    def start(self, recipe: Recipe, name: str) -> Future[BuildOutcome]:
        """Begin to build one candidate; the result is what :meth:`build` returns or raises. One runs at a time."""
        return self._watchers.submit(self.outcome, self.ready(), self.request(recipe), name)

    def forecast(self, recipe: Recipe) -> dict[str, LayerLoss]:
        """What each linear layer is expected to lose in every format, by its path.

        Raises:
            OlivineError: as :meth:`build`.
        """
        request = {**self.request(recipe), "calibration": self.calibration, "forecast": True}
        answer, _ = self.answer(self.ready(), request, "forecast", ExpectedLosses)
        return answer.by_path()

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

    def close(self) -> None:
        """End the process that builds, and the thread that waits for it."""
        self._end_process()
        self._watchers.shutdown()
        super().close()
