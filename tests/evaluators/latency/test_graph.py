from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulated_cores import simulated_cores

from olivine.evaluators.latency.graph import PairedGraphLatency
from olivine.evaluators.process.messages import Timing

SHAPES = ("short", "long")


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class FakeProcess:
    """Takes so many milliseconds a run of each shape, with a few percent of noise; the clock moves with it."""

    clock: Clock
    ms: tuple[float, ...]
    rng: np.random.Generator
    load_seconds: float = 0.1
    still: bool = False
    threads: int = 2
    usable: bool = True
    log: list[Any] = field(default_factory=list)

    def run(self, feeds: Path, number: int, times: int) -> Timing:
        assert not self.still
        times_ms = (self.ms[number] * np.exp(self.rng.normal(0, 0.03, times))).tolist()
        self.clock.now += sum(times_ms) / 1e3
        self.log.append(("run", number, times))
        return Timing(times_ms, 0.0)

    def reserve(self, tokens: int) -> bool:
        return tokens == 0

    def pin(self, cores: Collection[int]) -> None:
        raise AssertionError("a process of two threads runs where the kernel puts it")

    def pause(self) -> None:
        self.still = True

    def resume(self) -> None:
        self.still = False

    def raise_priority(self) -> bool:
        return True

    def restore_priority(self) -> None:
        pass

    def restart(self) -> None:
        self.log.append("restart")

    def reload(self) -> None:
        self.resume()


def simulated(clock: Clock) -> dict[str, Any]:
    """A clock, and cores that are apart now and then, and back after a rest."""
    return {"clock": clock, "core_watch": simulated_cores(itertools.cycle([1.6] * 10 + [5.0]).__next__)}


def processes(*ms: tuple[float, ...]) -> tuple[Clock, list[Any]]:
    clock, rng = Clock(), np.random.default_rng(0)

    class ModelProcess(FakeProcess):
        def run(self, feeds: Path, number: int, times: int) -> Timing:
            for other in simulated_processes:
                assert other is self or other.still
            self.still = False
            return super().run(feeds, number, times)

    simulated_processes = [ModelProcess(clock, times_ms, rng) for times_ms in ms]
    return clock, simulated_processes


def test_speedup_and_latency_are_geometric_means_over_shapes() -> None:
    clock, (base, own) = processes((8.0, 32.0), (4.0, 8.0))
    runs = PairedGraphLatency(Path("feeds.npz"), SHAPES, 0.005, 20.0, base_ms=20.0, **simulated(clock))
    latency, speedup = runs.evaluate(own, base)
    assert speedup.value == pytest.approx(8**0.5, rel=0.02)  # 2x and 4x
    assert speedup.low < 8**0.5 < speedup.high
    assert latency.value == pytest.approx(20 / speedup.value)
    assert latency.low == pytest.approx(20 / speedup.high)
    shapes = latency.protocol["shapes"]
    assert shapes["short"]["speedup"] == pytest.approx(2, rel=0.03)
    assert shapes["long"]["speedup"] == pytest.approx(4, rel=0.03)
    assert latency.protocol["processes"] == base.log.count("restart") + 1 == own.log.count("restart") + 1 > 1


def test_a_visit_runs_until_the_faster_process_has_been_timed_long_enough() -> None:
    clock, (base, own) = processes((8.0, 32.0), (4.0, 8.0))
    latency, _ = PairedGraphLatency(Path("feeds.npz"), SHAPES, 1.0, 1.0, **simulated(clock)).evaluate(own, base)
    assert latency.protocol["cold_runs"] == pytest.approx([3, 2], abs=1)
    assert latency.protocol["runs_per_visit"] == pytest.approx([8, 5], abs=1)
    assert latency.protocol["ended_by"] == "half_width"


def test_the_base_beside_itself_is_one_by_its_own_readings() -> None:
    clock, (base,) = processes((8.0, 32.0))
    latency, speedup = PairedGraphLatency(Path("feeds.npz"), SHAPES, 0.02, 2.0, **simulated(clock)).evaluate(base, base)
    assert (speedup.low, speedup.value, speedup.high) == (1, 1, 1)
    assert latency.value == pytest.approx(16, rel=0.03)


def test_rounds_in_which_the_cores_were_moved_do_not_count() -> None:
    clock, (base, own) = processes((8.0, 32.0), (4.0, 8.0))
    latency, _ = PairedGraphLatency(Path("feeds.npz"), SHAPES, 0.0, 4.0, **simulated(clock)).evaluate(own, base)
    moved = latency.protocol["core_distance"]["rounds_moved"]
    rounds = len(latency.protocol["samples"]["ms"][0])
    assert rounds == latency.protocol["rounds"] == len(latency.samples)
    assert 0 < moved < rounds
    assert moved == len(latency.protocol["samples"]["cores_moved"]["ms"][0])
    timed = sum(entry[1] == 0 for entry in own.log if entry[0] == "run")
    assert timed == rounds + moved + latency.protocol["processes"]  # each process runs every shape once to warm up
