"""Paired latency of graphs that are no decoders: candidate and resident base take turns on each named shape.

As in :mod:`olivine.evaluators.latency.decoder`: one model runs while the other stands still, a coin says who is first,
the first runs of a visit do not count, and both go on in fresh processes every few seconds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from olivine.evaluators.latency.core_placement import THIS_MACHINE, CoreWatch
from olivine.evaluators.latency.rounds import Budget, Pair, PairedRounds
from olivine.evaluators.latency.speedup import (
    divided,
    kish_effective_count,
    lower_half_mean,
    noisy_neighbour_sd,
    prefill_speedup,
    with_noisy_neighbours,
)
from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.protocols import GraphProcess
from olivine.evaluators.stats import Floats, Interval, hodges_lehmann

#: Milliseconds of a visit's first runs, which don't count, and of those that do, for the faster model.
COLD_MS, COUNTED_MS = 10.0, 20.0
MAX_RUNS = 64
#: Runs of each shape before anything counts.
WARM_RUNS = 3
#: Of samples, after the point.
DIGITS = 5


class GraphRounds(PairedRounds[GraphProcess]):
    """Rounds of a visit to each model for every shape, in random order.

    Attributes:
        cold: [shapes] runs at a visit's start that do not count.
        runs: [shapes] runs of a visit, cold ones included.
        ms: [models][shapes][rounds] milliseconds.
    """

    warm_up_counts: ClassVar[bool] = False

    def __init__(self, pair: Pair[GraphProcess], feeds: Path, shapes: int) -> None:
        super().__init__(pair)
        self._feeds, self._shapes = feeds, shapes
        self.cold: list[int] = []
        self.runs: list[int] = []
        self.ms: list[list[list[float]]] = [[[] for _ in range(self._shapes)] for _ in self.interleaver.processes]

    def warm_up(self) -> None:
        """Run every shape, and fit the runs of a visit to the faster model's time."""
        fastest = self._fastest_ms()
        self.cold = [min(math.ceil(COLD_MS / ms), MAX_RUNS // 2) for ms in fastest]
        self.runs = [
            cold + min(math.ceil(COUNTED_MS / ms), MAX_RUNS // 2) for cold, ms in zip(self.cold, fastest, strict=True)
        ]

    def reserve(self) -> None:
        """Nothing is held for graphs."""

    def wake(self) -> None:
        """Run every shape."""
        self._fastest_ms()

    def _fastest_ms(self) -> list[float]:
        """[shapes] milliseconds of the fastest of some runs of each model."""
        indexes = range(len(self.interleaver.processes))
        return [
            min(min(self.interleaver.pause_others(i).run(self._feeds, shape, WARM_RUNS).ms) for i in indexes)
            for shape in range(self._shapes)
        ]

    def take(self) -> list[float]:
        """Take a round; returns the distances of the cores."""
        distances = list[float]()
        for shape in map(int, self.rng.permutation(self._shapes)):
            arrival, start = self.interleaver.wait_until_adjacent()
            distances += [arrival, start] if distances else [start]
            for index in map(int, self.rng.permutation(len(self.ms))):
                ms = self.interleaver.pause_others(index).run(self._feeds, shape, self.runs[shape]).ms
                self.ms[index][shape].append(float(lower_half_mean(np.array(ms[self.cold[shape] :]))))
        return distances

    def counted_ms(self) -> Floats:
        """[models, shapes, rounds] milliseconds of the rounds that count."""
        ms: Floats = np.array(self.ms)[:, :, self.counted()]
        return ms

    def moved_ms(self) -> Floats:
        """[models, shapes, rounds] milliseconds of the rounds that do not count."""
        ms: Floats = np.array(self.ms)[:, :, ~self.counted()]
        return ms

    def half_width(self) -> float:
        """The log interval of the speedup, or of the latency of a base alone; on either side."""
        if self.alone:
            return hodges_lehmann(np.log(self.counted_ms()[0]).mean(axis=0)).half_width
        return self.log_speedup().half_width

    def log_speedup(self, shape: int | None = None) -> Interval:
        """Log speedup in one shape, or of the geometric mean over shapes."""
        if self.alone:
            return Interval(0.0, 0.0, 0.0)
        base, own = (_geometric_mean(ms if shape is None else ms[[shape]]) for ms in self.counted_ms())
        return prefill_speedup(base, own, kish_effective_count(self.counted_processes()))


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
            times where it is None.
        clock: seconds, for the budget.
        core_watch: of the cores that the models run on.
    """

    feeds: Path
    shapes: tuple[str, ...]
    half_width: float = 0.02
    max_seconds: float = 10.0
    seed: int = 0
    base_ms: float | None = None
    clock: Callable[[], float] = field(default=time.monotonic, repr=False, compare=False)
    core_watch: CoreWatch = field(default=THIS_MACHINE, repr=False, compare=False)

    name: ClassVar[str] = "latency"
    metrics: ClassVar[tuple[str, ...]] = ("latency_ms", "latency_speedup")

    def evaluate(self, candidate: GraphProcess, reference: GraphProcess) -> list[Measurement]:
        """Measure until the half-width is reached or the time is spent; ``candidate is reference`` is allowed.

        Raises:
            ModelProcessFailed: when a process died, hung or gave an answer that can't be read.
        """
        budget = Budget(self.half_width, self.max_seconds, self.clock)
        pair = Pair(candidate, reference, budget, self.seed, self.core_watch)
        rounds = GraphRounds(pair, self.feeds, len(self.shapes))
        rounds.measure()
        return self._measurements(rounds)

    def _measurements(self, rounds: GraphRounds) -> list[Measurement]:
        base, *_, own = 2 * list(rounds.counted_ms())
        log_speedup = rounds.log_speedup()
        speedup = with_noisy_neighbours(log_speedup).exp()
        times = _geometric_mean(own)
        latency = hodges_lehmann(np.log(times)).exp() if self.base_ms is None else divided(self.base_ms, speedup)
        ratios = _geometric_mean(base / own)
        samples: dict[str, Any] = _samples(rounds.counted_ms())
        if (moved := rounds.moved_ms()).size:
            samples["cores_moved"] = _samples(moved)
        protocol = {
            "shapes": {name: self._of_shape(rounds, shape) for shape, name in enumerate(self.shapes)},
            "over_shapes": "geometric mean",
            "runs_per_visit": rounds.runs,
            "cold_runs": rounds.cold,
            **rounds.protocol([_geometric_mean(ms).tolist() for ms in (base, own)], "run"),
            "neighbours": round(noisy_neighbour_sd(log_speedup.value), 6),
        }
        return [
            Measurement.of("latency_ms", latency, times, protocol | {"samples": samples}, DIGITS),
            Measurement.of("latency_speedup", speedup, ratios, protocol, DIGITS),
        ]

    def _of_shape(self, rounds: GraphRounds, shape: int) -> dict[str, float]:
        """Times and speedup in one shape."""
        base, *_, own = 2 * [ms[shape] for ms in rounds.counted_ms()]
        speedup = with_noisy_neighbours(rounds.log_speedup(shape)).exp()
        return {
            "base_ms": round(float(np.median(base)), 4),
            "ms": round(float(np.median(own)), 4),
            "speedup": round(speedup.value, 4),
            "low": round(speedup.low, 4),
            "high": round(speedup.high, 4),
        }


def _geometric_mean(ms: Floats) -> Floats:
    """[rounds] geometric mean over [shapes, rounds] times."""
    mean: Floats = np.exp(np.log(ms).mean(axis=0))
    return mean


def _samples(ms: Floats) -> dict[str, Any]:
    """[shapes, rounds] milliseconds of some rounds, of base and candidate."""
    return {"base_ms": np.round(ms[0], 4).tolist(), "ms": np.round(ms[-1], 4).tolist()}
