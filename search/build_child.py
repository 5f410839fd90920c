"""The child process of a build: ``python -m olivine.search.build_child REQUEST RESPONSE``.

A request file alone reproduces its build. Without arguments the child imports its libraries first and then waits
for one line on standard input, ``REQUEST<tab>RESPONSE``: a spare child that is ready when the next build comes.
"""

from __future__ import annotations

import json
import resource
import sys
import traceback
from pathlib import Path
from typing import Any

from olivine.evaluators.child_process import begin
from olivine.passes.artifact import write_atomic
from olivine.passes.cache import Cache
from olivine.passes.errors import OlivineError
from olivine.passes.pipeline import build
from olivine.passes.recipe import Recipe
from olivine.passes.source import resolve


def main(arguments: list[str]) -> None:
    """Run one build request."""
    if not arguments:
        begin()
        import torch  # noqa: F401 - imported while there is time

        arguments = sys.stdin.readline().rstrip("\n").split("\t")
    if len(arguments) == 2:
        request, response = map(Path, arguments)
        write_atomic(response, json.dumps(answer(json.loads(request.read_text())), indent=1))


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Build what the request asks for; an error of ours is an answer, any other ends the process."""
    cache = Cache(Path(request["cache"]), int(request["cache_max_bytes"]))
    try:
        source = resolve(request["model"], revision=request["revision"], trust_remote_code=request["trust_remote_code"])
        built = build(source, Recipe.from_json(request["recipe"]), cache, request.get("calibration"))
    except OlivineError as error:
        traceback.print_exc()
        return {"error": type(error).__name__, "message": str(error), "peak_rss_bytes": peak_rss_bytes()}
    return {
        "path": str(built.artifact.path),
        "key": built.artifact.key,
        "holds": sorted(built.artifact.holds),
        "passes": [
            {"name": p.name, "params": dict(p.params), "seconds": p.seconds, "cached": p.cached} for p in built.passes
        ],
        "peak_rss_bytes": peak_rss_bytes(),
    }


def peak_rss_bytes() -> int:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main(sys.argv[1:])
