"""Builds of plain graphs in child processes; a request file alone reproduces its build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from olivine.passes.graphs.source import GraphSource
from olivine.passes.recipe import Recipe
from olivine.passes.store.cache import Cache
from olivine.search.builds.client import BuildClient, BuildOutcome


class GraphBuilder(BuildClient):
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
        source: GraphSource,
        cache: Cache,
        folder: Path,
        timeout_s: float,
        memory_limit_bytes: int | None,
        sizes: dict[str, int],
    ) -> None:
        super().__init__(cache, folder, timeout_s, memory_limit_bytes)
        self.source, self._sizes = source, sizes
        #: File with the samples that static ranges are learned from; there once the base is built.
        self.calibrate: Path | None = None

    def request(self, recipe: Recipe) -> dict[str, Any]:
        """The request that builds ``recipe``."""
        return {
            "plain": {"model": self.source.model, "architecture": self.source.architecture, "sizes": self._sizes},
            "recipe": recipe.to_json(),
            "calibrate": str(self.calibrate.resolve()) if self.calibrate and recipe.needs_calibration else None,
            "cache": str(self._cache.root),
            "cache_max_bytes": self._cache.max_bytes,
        }

    def build(self, recipe: Recipe, name: str) -> BuildOutcome:
        """Build one candidate; ``name`` names its request and response files.

        Raises:
            OlivineError: what the build refused or failed with.
        """
        return self.outcome(self.ready(), self.request(recipe), name)
