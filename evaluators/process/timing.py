"""Timing of work inside a model process, and the versions that ran it.

Imported by children under interpreters that have no olivine: the standard library alone.
"""

from __future__ import annotations

import itertools
import platform
import time
from collections.abc import Callable
from importlib import metadata

from olivine.evaluators.process.messages import Timing
from olivine.evaluators.process.procfs import busy_s


def timed(work: Callable[[], object], times: int) -> Timing:
    """Time each of so many calls, and measure how many cores other programs kept busy meanwhile."""
    busy, own = busy_s(), time.process_time()
    marks = [time.perf_counter_ns()]
    for _ in range(times):
        work()
        marks.append(time.perf_counter_ns())
    foreign_s = (busy_s() - busy) - (time.process_time() - own)
    seconds = (marks[-1] - marks[0]) / 1e9
    ms = [(after - before) / 1e6 for before, after in itertools.pairwise(marks)]
    return Timing(ms, max(0.0, foreign_s / seconds))


def versions() -> dict[str, str]:
    """Versions of Python and of every flavour of ONNX Runtime that this process has."""
    packages = {package.metadata["Name"].lower(): package.version for package in metadata.distributions()}
    runtimes = {name: number for name, number in packages.items() if name.startswith("onnxruntime")}
    return {"python": platform.python_version(), **runtimes}
