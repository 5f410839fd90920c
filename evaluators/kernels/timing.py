"""Times the graphs of a folder in plain ONNX Runtime sessions, in a process of its own.

Run by :mod:`olivine.evaluators.kernels.probe`, maybe under an interpreter that has no olivine: imports only the
standard library, numpy and onnxruntime. Reads a request from stdin, writes one line of JSON to stdout:

    {"folder": path, "threads": n, "files": {name: bytes}, "groups": [[file of a graph, ...], ...]}
    {"runtime": version, "graphs": {file: {"ms": time of a run} or {"error": text}}}

The graphs of a group run in turns. So each finds the caches as the others left them, and what disturbs the machine for
a while disturbs all of them. All share one pool of threads: idle threads of other sessions would spin beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from olivine.evaluators.process.lifecycle import answer_once
from olivine.evaluators.process.servers.provider import CPU

#: Files with the weights of the graphs: float32 values between -0.5 and 0.5, and bytes.
FLOATS, CODES = "floats.bin", "codes.bin"
#: Rounds of a group: at least, at most, and for how long. Two more before them warm up.
LEAST_ROUNDS, MOST_ROUNDS, SECONDS = 6, 24, 0.2


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Fill the files that the graphs read, and time each graph."""
    import onnxruntime as ort

    ort.set_global_thread_pool_sizes(request["threads"], 1)
    folder = Path(request["folder"])
    for name, size in request["files"].items():
        fill(folder / name, size)
    graphs: dict[str, Any] = {}
    for group in request["groups"]:
        graphs |= timed(ort, folder, group)
    return {"runtime": ort.__version__, "graphs": graphs}


def fill(path: Path, size: int) -> None:
    """Write ``size`` bytes: any, or float32 values between -0.5 and 0.5."""
    rng = np.random.default_rng(0)
    if path.name == FLOATS:
        (rng.random(size // 4, dtype=np.float32) - np.float32(0.5)).tofile(path)
    else:
        rng.integers(0, 256, size, dtype=np.uint8).tofile(path)


def timed(ort: Any, folder: Path, group: list[str]) -> dict[str, Any]:
    """Time one run of each graph in milliseconds, or tell why it does not run."""
    runs: dict[str, Callable[[], object]] = {}
    results: dict[str, Any] = {}
    for name in group:
        try:
            runs[name] = runner(ort, folder / name)
        except Exception as error:  # a kernel that this runtime does not have: that is the answer
            results[name] = {"error": str(error)}
    if runs:
        for name, seconds in run_in_turns(runs).items():
            results[name] = {"ms": 1e3 * lower_half_mean(seconds)}
    return results


def runner(ort: Any, graph: Path) -> Callable[[], object]:
    """Load a graph as ONNX Runtime GenAI would, and run it once; the result runs it again and copies nothing."""
    options = ort.SessionOptions()
    options.use_per_session_threads = False
    options.log_severity_level = 4  # what fails is the answer, not a line on the terminal
    session = ort.InferenceSession(str(graph), options, providers=[CPU])
    binding, values = session.io_binding(), {}
    rng = np.random.default_rng(0)
    for graph_input in session.get_inputs():
        shape = tuple(graph_input.shape)
        if shape not in values:
            values[shape] = ort.OrtValue.ortvalue_from_numpy(rng.standard_normal(shape, dtype=np.float32))
        binding.bind_ortvalue_input(graph_input.name, values[shape])
    for graph_output in session.get_outputs():
        output = ort.OrtValue.ortvalue_from_numpy(np.zeros(graph_output.shape, np.float32))
        binding.bind_ortvalue_output(graph_output.name, output)
    session.run_with_iobinding(binding)
    return lambda: session.run_with_iobinding(binding)


def run_in_turns(
    runs: Mapping[str, Callable[[], object]], clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Run all of them round by round until there are enough times, in seconds; one round before them is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    started, rounds = clock(), 0
    while rounds < LEAST_ROUNDS or (clock() - started < SECONDS and rounds < MOST_ROUNDS):
        for name, run in runs.items():
            before = clock()
            run()
            seconds[name].append(clock() - before)
        rounds += 1
    return seconds


def lower_half_mean(seconds: list[float]) -> float:
    """Mean of the faster half: other programs only ever make a run slower."""
    faster = sorted(seconds)[: (len(seconds) + 1) // 2]
    return sum(faster) / len(faster)


if __name__ == "__main__":
    answer_once(answer)
