"""Builds in child processes: a request file in, a response file out.

Whatever a build does to its process (crash, hang, eat the memory) costs one trial. A spare child imports its
libraries while the previous candidate is being measured, so no trial waits for an interpreter.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from olivine.evaluators.child_process import end_group, how_it_ended
from olivine.evaluators.procfs import peak_rss_bytes
from olivine.passes import errors
from olivine.passes.artifact import ModelArtifact, write_atomic
from olivine.passes.cache import Cache
from olivine.passes.durable import aside_name
from olivine.passes.errors import BuildFailed, OlivineError
from olivine.passes.recipe import Recipe
from olivine.passes.source import Source

POLL_S = 0.05
TAIL_CHARACTERS = 2000


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
        self._spare: _Child | None = None
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
        }

    def prepare(self) -> None:
        """Start a spare child, which imports its libraries while something else is going on."""
        if self._spare is None:
            self._spare = _Child(self._folder)

    def build(self, recipe: Recipe, name: str) -> BuildOutcome:
        """Build one candidate; ``name`` names its request, response and log files.

        Raises:
            OlivineError: what the build refused or failed with, or BuildFailed for a child that died, hung or
                outgrew its memory, with the tail of what it said.
        """
        self.prepare()
        child, self._spare = self._spare, None
        assert child is not None
        request, response = self._folder / f"{name}.request.json", self._folder / f"{name}.response.json"
        response.unlink(missing_ok=True)
        write_atomic(request, json.dumps(self.request(recipe), indent=1))
        start = time.perf_counter()
        with child:
            child.run(request, response, self._timeout_s, self._limit)
        answer = json.loads(response.read_text())
        if "error" in answer:
            kind = getattr(errors, answer["error"], OlivineError)
            raise kind(answer["message"])
        artifact = ModelArtifact(Path(answer["path"]), answer["key"], frozenset(answer["holds"]))
        return BuildOutcome(artifact, answer["passes"], time.perf_counter() - start, answer["peak_rss_bytes"])

    def close(self) -> None:
        """End the spare child."""
        if self._spare is not None:
            self._spare.close()
            self._spare = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Child:
    """One build process, in a process group of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log_path = aside_name(folder / f"build-{time.monotonic_ns()}.log")
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "olivine.search.build_child"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, request: Path, response: Path, timeout_s: float, limit: int | None) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{request}\t{response}\n".encode())
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # it has died already; how is told below
        deadline = time.monotonic() + timeout_s
        while self._process.poll() is None:
            if time.monotonic() > deadline:
                raise BuildFailed(f"the build did not end within {timeout_s:g} s", self._tail())
            if limit is not None and (peak := peak_rss_bytes(self._process.pid)) > limit:
                raise BuildFailed(
                    f"the build held {peak / 1e6:.0f} MB, its limit is {limit / 1e6:.0f} MB (children.memory)"
                )
            time.sleep(POLL_S)
        if self._process.returncode != 0 or not response.is_file():
            code = self._process.returncode
            raise BuildFailed(f"the build {how_it_ended(code)}", self._tail())

    def _tail(self) -> str:
        return self._log_path.read_bytes()[-TAIL_CHARACTERS:].decode("utf-8", "replace").strip()

    def close(self) -> None:
        end_group(self._process)
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        self._log_path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
