"""The child process of a build: ``python -m olivine.search.builds.child REQUEST RESPONSE``.

A request file alone reproduces its build. Without arguments the process stays: it imports its libraries, takes lines
``REQUEST<tab>RESPONSE`` on standard input and forks for each. On standard output it says ``started PID`` and, when
that process has ended, ``ended CODE``, as :attr:`subprocess.Popen.returncode` counts.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import traceback
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from olivine.evaluators.process.lifecycle import begin
from olivine.passes.base import PassResult
from olivine.passes.catalog import GRAPH, LANGUAGE
from olivine.passes.errors import OlivineError, unwritable
from olivine.passes.graphs.source import resolve_graph
from olivine.passes.pipeline import BuildResult, build, layer_losses
from olivine.passes.sources.source import resolve
from olivine.passes.store.atomic_files import write_atomic
from olivine.passes.store.cache import Cache
from olivine.passes.store.shared_builds import SharedBuilds
from olivine.search.builds.messages import BuildAnswer, BuildRefused, Built, ExpectedLosses

#: The build's own answer could not be written.
EXIT_UNWRITABLE = 28


def main(arguments: list[str]) -> None:
    """Run one build request, or stay for many."""
    if len(arguments) == 2:
        build_request(*map(Path, arguments))
    else:
        serve()


def build_request(request: Path, response: Path) -> None:
    """Build what the file ``request`` asks for and write the answer to ``response``."""
    write_atomic(response, json.dumps(asdict(answer(json.loads(request.read_text()))), indent=1))


def serve() -> None:
    """Fork for every request, until standard input ends."""
    begin()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # output of libraries goes to the log and can't break the protocol
    _import_ahead()
    for line in sys.stdin:
        request, response = map(Path, line.rstrip("\n").split("\t"))
        server, child = os.getpid(), os.fork()
        if child == 0:
            _build_and_exit(request, response, server)
        answers.write(f"started {child}\n")
        _, status = os.waitpid(child, 0)
        answers.write(f"ended {os.waitstatus_to_exitcode(status)}\n")


def _import_ahead() -> None:
    """Import the libraries that builds use. None may run yet: threads that it starts would be missing after a fork."""
    import onnxruntime  # noqa: F401
    import safetensors  # noqa: F401
    import scipy.linalg.lapack  # noqa: F401
    import threadpoolctl  # noqa: F401
    import torch  # noqa: F401

    from olivine.passes.quantize.blocks import layer_codes  # noqa: F401


def _build_and_exit(request: Path, response: Path, server: int) -> None:
    """Live the life of a forked process: an error is printed, and told by the exit code."""
    code = 1
    try:
        begin()
        if os.getppid() == server:  # else it was killed before we asked to end with it
            build_request(request, response)
        code = 0
    except BaseException as error:  # it must not go on as a second server
        traceback.print_exc()
        code = EXIT_UNWRITABLE if unwritable(error) is not None else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def answer(request: dict[str, Any]) -> BuildAnswer:
    """Build what the request asks for; an error of ours is an answer, any other ends the process."""
    pins = ExitStack()  # what the build reads stays in the cache until this process ends
    shared = SharedBuilds(request["cache_shared"]) if request.get("cache_shared") else None
    cache = Cache(Path(request["cache"]), int(request["cache_max_bytes"]), shared, pins)
    try:
        if "graph" in request:
            return _message(_build_graph(request, cache))
        source = resolve(request["model"], revision=request["revision"], trust_remote_code=request["trust_remote_code"])
        recipe, calibration = LANGUAGE.recipe(request["recipe"]), request["calibration"]
        if request.get("forecast"):
            losses = layer_losses(source, recipe, cache, calibration)
            return ExpectedLosses(list(losses.values()), peak_rss_bytes())
        return _message(build(source, recipe, cache, calibration))
    except Exception as error:  # a full disk comes as whatever the library that wrote raises; the rest goes on
        refusal = unwritable(error) or error
        if not isinstance(refusal, OlivineError):
            raise
        traceback.print_exc()
        return BuildRefused(type(refusal).__name__, str(refusal), peak_rss_bytes())


def _build_graph(request: dict[str, Any], cache: Cache) -> BuildResult:
    """Build a candidate of a graph that is no decoder."""
    about, samples = request["graph"], request["samples"]
    source = resolve_graph(about["model"], about["architecture"])
    path = Path(samples) if samples else None
    return build(source, GRAPH.recipe(request["recipe"]), cache, samples=path, sizes=about["sizes"])


def _message(built: BuildResult) -> Built:
    return Built(
        str(built.artifact.path),
        built.artifact.key,
        sorted(built.artifact.properties),
        [_row(p) for p in built.passes],
        peak_rss_bytes(),
    )


def _row(result: PassResult) -> dict[str, Any]:
    """A row of a record's ``passes``."""
    row = {"name": result.name, "params": dict(result.params), "seconds": result.seconds, "cached": result.cached}
    more = {"proof": dict(result.proof) if result.proof else None, "note": result.note}
    return row | {name: value for name, value in more.items() if value}


def peak_rss_bytes() -> int:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main(sys.argv[1:])
