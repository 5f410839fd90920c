"""Paired latency of graphs that are no decoders: candidate and resident base take turns on each named shape.

As in :mod:`olivine.evaluators.latency.decoder`: one model runs while the other stands still, a coin says who is first,
the first runs of a visit do not count, and both go on in fresh processes every few seconds.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from olivine.evaluators.latency.core_placement import oddest
from olivine.evaluators.latency.decoder import (
    CHECK_EVERY,
    ESTIMATOR,
    MAX_PROCESSES,
    MOST_TRIES,
    PER_LOAD,
    PROCESS_SECONDS,
)
from olivine.evaluators.latency.interleave import MIN_ROUNDS, Interleaver
from olivine.evaluators.latency.speedup import effective, lower_half_mean, neighbours, prefill_speedup, with_neighbours
from olivine.evaluators.latency.warnings import core_cautions, timing_cautions
from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.procfs import frequency_governor, stolen_s
from olivine.evaluators.process.protocols import GraphProcess
from olivine.evaluators.stats import Floats, Interval, hodges_lehmann

#: Milliseconds of a visit's first runs, which don't count, and of those that do, for the faster process.
COLD_MS, COUNTED_MS = 10.0, 20.0
MAX_RUNS = 64
#: Runs of each shape before anything counts.
WARM_RUNS = 3


@dataclass
class Rounds:
    """What rounds gave.

    Attributes:
        ms: [processes][shapes][rounds] milliseconds.
        process: [rounds] number of the model's process, from 0.
        core_distance: [rounds] how far the cores lay from each other at the oddest moment; nan where unknown.
    """

    ms: list[list[list[float]]]
    process: list[int] = field(default_factory=list)
    core_distance: list[float] = field(default_factory=list)

    def counted(self, turns: Interleaver[Any]) -> tuple[Floats, list[int]]:
        """[processes, shapes, rounds] milliseconds of the rounds that count, and their processes."""
        kept = turns.counted(self.core_distance)
        return np.array(self.ms)[:, :, kept], np.array(self.process)[kept].tolist()

    def moved(self, turns: Interleaver[Any]) -> Floats:
        """[processes, shapes, rounds] milliseconds of the rounds that do not count."""
        found: Floats = np.array(self.ms)[:, :, ~turns.counted(self.core_distance)]
        return found


@dataclass(frozen=True)
class PairedGraphLatency:
    """Speedup of a candidate over the base, and its latency in milliseconds, over all named shapes.

    Both are geometric means over the shapes, so that no shape counts more for being slow.

    Attributes:
        feeds: .npz with one feed a shape, in the order of ``shapes``.
        shapes: their names.
        half_width: stop when the 95 % interval of the log speedup is at most this on either side, without what
            neighbours do: no further round narrows that.
        max_seconds: or when measuring has taken this long, but not before 8 rounds that count, or three times as many.
        seed: of the order.
        base_ms: the base's latency in this study; candidates' milliseconds are it over their speedup. Their own
            readings where it is None.
        clock: seconds, for the budget.
    """

    feeds: Path
    shapes: tuple[str, ...]
    half_width: float = 0.02
    max_seconds: float = 10.0
    seed: int = 0
    base_ms: float | None = None
    clock: Callable[[], float] = field(default=time.monotonic, repr=False, compare=False)

    name: ClassVar[str] = "latency"
    metrics: ClassVar[tuple[str, ...]] = ("latency_ms", "latency_speedup")

    def evaluate(self, candidate: GraphProcess, reference: GraphProcess) -> list[Measurement]:
        """Measure until the half-width is reached or the time is spent; ``candidate is reference`` is allowed."""
        rng = np.random.default_rng(self.seed)
        processes = [reference] if candidate is reference else [reference, candidate]
        turns = Interleaver(processes)
        process_count = self._process_count(processes)
        stolen, begun = stolen_s(), time.monotonic()
        with turns.ahead_of_others(self.max_seconds):
            runs = self._warm_up(turns, processes)
            rounds = Rounds([[[] for _ in self.shapes] for _ in processes])
            ended_by = self._rounds(turns, processes, runs, rounds, rng, process_count)
        readings, process = rounds.counted(turns)
        moved = rounds.moved(turns)
        facts = turns.core_facts(rounds.core_distance)
        used = effective(process)
        share = (stolen_s() - stolen) / max(1e-9, (time.monotonic() - begun) * (os.cpu_count() or 1))
        base, own = readings[0], readings[-1]
        firsts = [list(np.exp(np.log(process).mean(axis=0))) for process in (base, own)]
        protocol = {
            "shapes": {name: self._of_shape(base[i], own[i], used) for i, name in enumerate(self.shapes)},
            "over_shapes": "geometric mean",
            "rounds": base.shape[1],
            "runs_per_visit": [cold + counted for cold, counted in runs],
            "cold_runs": [cold for cold, _ in runs],
            "processes": len(set(process)),
            "ended_by": ended_by,
            "asked_half_width": self.half_width,
            "estimator": ESTIMATOR,
            "priority": "raised" if turns.hurried else "usual",
            "cautions": [
                *timing_cautions(share, frequency_governor(), True, firsts, "run"),
                *core_cautions(facts.get("core_distance", {}), len(rounds.process)),
            ],
            "stolen_share": round(share, 4),
            **facts,
        }
        return self._summarise(base, own, moved, used, protocol)

    def _process_count(self, processes: Sequence[GraphProcess]) -> int:
        if len(processes) == 1:
            return 1
        seconds = max(PROCESS_SECONDS, PER_LOAD * sum(process.load_seconds for process in processes))
        return max(1, min(round(self.max_seconds / seconds), MAX_PROCESSES))

    def _warm_up(self, turns: Interleaver[GraphProcess], processes: Sequence[GraphProcess]) -> list[tuple[int, int]]:
        """Run every shape; returns (cold, counted) runs of a visit for each, by the faster process's time."""
        found = []
        for number in range(len(self.shapes)):
            fastest = math.inf
            for index in range(len(processes)):
                fastest = min(fastest, *turns.pause_others(index).run(self.feeds, number, WARM_RUNS).ms)
            cold = min(math.ceil(COLD_MS / fastest), MAX_RUNS // 2)
            found.append((cold, min(math.ceil(COUNTED_MS / fastest), MAX_RUNS // 2)))
        return found

    def _rounds(
        self,
        turns: Interleaver[GraphProcess],
        processes: Sequence[GraphProcess],
        runs: Sequence[tuple[int, int]],
        rounds: Rounds,
        rng: np.random.Generator,
        process_count: int,
    ) -> str:
        """Rounds until the half-width is reached or time is spent; which it was."""
        spent = 0.0
        for start in range(process_count):
            started = self.clock()
            if start:
                turns.restart(rng)
                started = self.clock()
                self._warm_up(turns, processes)
            share = (start + 1) / process_count
            needed, taken, kept = share * MIN_ROUNDS, len(rounds.process), turns.kept(rounds.core_distance)
            while (
                spent + self.clock() - started < share * self.max_seconds
                or (kept < needed and taken < MOST_TRIES * needed)
                or start not in rounds.process
            ):
                self._round(turns, processes, runs, rounds, rng)
                rounds.process.append(start)
                taken, kept = taken + 1, turns.kept(rounds.core_distance)
                if kept >= MIN_ROUNDS and kept % CHECK_EVERY == 0 and self._precise(*rounds.counted(turns)):
                    return "half_width"
            spent += self.clock() - started
        return "max_seconds"

    def _precise(self, readings: Floats, process: Sequence[int]) -> bool:
        if len(readings) == 1:
            return hodges_lehmann(np.log(readings[0]).mean(axis=0)).half_width <= self.half_width
        return _speedup(readings[0], readings[-1], effective(process)).half_width <= self.half_width

    def _round(
        self,
        turns: Interleaver[GraphProcess],
        processes: Sequence[GraphProcess],
        runs: Sequence[tuple[int, int]],
        rounds: Rounds,
        rng: np.random.Generator,
    ) -> None:
        """A visit to each process for every shape, in random order."""
        turns.change_core(rng)
        distances = list[float]()
        for number in rng.permutation(len(self.shapes)):
            arrival, start = turns.settle()
            distances += [arrival, start] if distances else [start]
            cold, counted = runs[number]
            for index in rng.permutation(len(processes)):
                ms = turns.pause_others(int(index)).run(self.feeds, int(number), cold + counted).ms
                rounds.ms[index][number].append(float(lower_half_mean(np.array(ms[cold:]))))
        rounds.core_distance.append(oddest([*distances, turns.look()]))

    def _of_shape(self, base: Floats, own: Floats, processes: float) -> dict[str, float]:
        """What one shape gave by itself."""
        ratio = with_neighbours(_speedup(base[None], own[None], processes)).exp()
        return {
            "base_ms": round(float(np.median(base)), 4),
            "ms": round(float(np.median(own)), 4),
            "speedup": round(ratio.value, 4),
            "low": round(ratio.low, 4),
            "high": round(ratio.high, 4),
        }

    def _summarise(
        self, base: Floats, own: Floats, moved: Floats, processes: float, protocol: dict[str, Any]
    ) -> list[Measurement]:
        alone = base is own or np.array_equal(base, own)
        found = Interval(0.0, 0.0, 0.0) if alone else _speedup(base, own, processes)
        speedup = with_neighbours(found).exp()
        protocol = protocol | {"neighbours": round(neighbours(found.value), 6)}
        times = np.exp(np.log(own).mean(axis=0))
        if self.base_ms is None:
            latency = hodges_lehmann(np.log(times)).exp()
        else:
            latency = Interval(self.base_ms / speedup.value, self.base_ms / speedup.high, self.base_ms / speedup.low)
        ratios = np.exp(np.log(base / own).mean(axis=0))
        samples: dict[str, Any] = _raw(base, own)
        if moved.size:
            samples["cores_moved"] = _raw(moved[0], moved[-1])
        return [
            Measurement(
                "latency_ms",
                "ms",
                *_triple(latency),
                tuple(np.round(times, 5).tolist()),
                protocol | {"samples": samples},
            ),
            Measurement("latency_speedup", "ratio", *_triple(speedup), tuple(np.round(ratios, 5).tolist()), protocol),
        ]


def _raw(base: Floats, own: Floats) -> dict[str, Any]:
    """[shapes, rounds] milliseconds of some rounds."""
    return {"base_ms": np.round(base, 4).tolist(), "ms": np.round(own, 4).tolist()}


def _triple(interval: Interval) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high


def _speedup(base: Floats, own: Floats, processes: float) -> Interval:
    """Log speedup from [shapes, rounds] times, of the geometric mean over shapes."""
    if np.array_equal(base, own):
        return Interval(0.0, 0.0, 0.0)
    geometric = [np.exp(np.log(times).mean(axis=0)) for times in (base, own)]
    return prefill_speedup(geometric[0], geometric[1], processes)
