"""Paired latency: the candidate and the resident base take turns, so that the machine's drift cancels.

A round is one prefill of each process, then a few short visits of decode to each; in every pair of visits a coin says
who is first. While one process runs the other one stands still. The first steps of a visit fill the caches and wake
the threads, and do not count. After some seconds both models go on in fresh processes: each process has luck of its
own. :mod:`olivine.evaluators.latency.speedup` makes speedups and intervals of the readings.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from olivine.evaluators.latency.baseline_times import BaselineTimes
from olivine.evaluators.latency.core_placement import oddest
from olivine.evaluators.latency.interleave import MIN_ROUNDS, Interleaver, Readings, Visits
from olivine.evaluators.latency.speedup import (
    decode_speedup,
    e2e_speedup,
    effective,
    neighbours,
    prefill_speedup,
    with_neighbours,
)
from olivine.evaluators.latency.warnings import core_cautions, timing_cautions
from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.procfs import frequency_governor, stolen_s
from olivine.evaluators.process.protocols import TimedProcess
from olivine.evaluators.stats import Floats, Interval, hodges_lehmann

#: Times as many rounds as needed that are taken at most, where many do not count.
MOST_TRIES = 3
MIN_WARMUP_ROUNDS, MAX_WARMUP_ROUNDS = 2, 5
#: Share of the time budget after which warm-up ends, steady or not.
WARMUP_SHARE = 0.15
#: Decode steps of a warm-up round.
WARMUP_STEPS = 4
#: Prompt tokens that a fresh process runs before it is timed, where the memory for whole prompts is held already.
WAKING_TOKENS = 8
#: Rounds between looks at the interval's width.
CHECK_EVERY = 4
ESTIMATOR = (
    "lower-half means of paired log times, 95 % randomisation interval, the luck of processes and what neighbours on a "
    "host do included"
)
#: Seconds that a pair of processes is timed before fresh ones take over, and how many pairs there are at most.
PROCESS_SECONDS = 2.5
MAX_PROCESSES = 10
#: Processes are timed at least this many times as long as it takes to load their models.
PER_LOAD = 1.0


@dataclass(frozen=True)
class PairedDecoderLatency:
    """Speedups of a candidate over the base, and its times in milliseconds.

    Attributes:
        prompt_tokens: length of the prompt.
        new_tokens: tokens a user asks for; decode is timed at these depths and ``e2e_ms`` is for all of them.
        half_width: stop when the 95 % intervals of both log ratios are at most this on either side, without what
            neighbours do: no further round narrows that.
        max_seconds: stop when measuring (warm-up included, but not the starts of processes) has taken this long, but
            not before 8 rounds that count, or three times as many.
        seed: of prompt and order.
        base_pool: the base's readings over the whole study; milliseconds are its pooled reading times the
            ratio.
        max_rounds: stop after this many rounds that count, or three times as many; None for no such limit.
        clock: seconds, for the budget.
    """

    prompt_tokens: int = 128
    new_tokens: int = 32
    half_width: float = 0.02
    max_seconds: float = 10.0
    seed: int = 0
    base_pool: BaselineTimes | None = None
    max_rounds: int | None = None
    clock: Callable[[], float] = field(default=time.monotonic, repr=False, compare=False)

    name: ClassVar[str] = "latency"
    metrics: ClassVar[tuple[str, ...]] = (
        "ttft_ms",
        "tpot_ms",
        "e2e_ms",
        "prefill_tok_s",
        "decode_tok_s",
        "ttft_speedup",
        "tpot_speedup",
        "e2e_speedup",
    )

    def evaluate(self, candidate: TimedProcess, reference: TimedProcess) -> list[Measurement]:
        """Measure until the half-width is reached or the time is spent; the protocol says which.

        ``candidate is reference`` is allowed: its speedups are exactly 1, its times are its own readings.
        """
        rng = np.random.default_rng(self.seed)
        turns = Interleaver([reference] if candidate is reference else [reference, candidate])
        vocab_size = min(process.vocab_size for process in turns.processes)
        prompt = [int(token) for token in rng.integers(0, vocab_size, self.prompt_tokens)]
        process_count = self._process_count(turns.processes)
        stolen, begun = stolen_s(), time.monotonic()
        with turns.ahead_of_others(self.max_seconds):
            started = self.clock()
            visits, warmup, steady = self._warm_up(turns, prompt)
            readings = [Readings(visits) for _ in turns.processes]
            ended_by = self._rounds(turns, prompt, readings, rng, started, process_count)
        distances = readings[0].core_distance
        counted = turns.counted(distances)
        readings, moved = ([process.of_rounds(kept) for process in readings] for kept in (counted, ~counted))
        stolen_share = (stolen_s() - stolen) / max(1e-9, (time.monotonic() - begun) * (os.cpu_count() or 1))
        if self.base_pool is not None:
            self.base_pool.add(readings[0].ttft_ms, readings[0].tpot_ms().tolist())
        facts = turns.core_facts(distances)
        protocol = {
            "prompt_tokens": self.prompt_tokens,
            "new_tokens": self.new_tokens,
            "rounds": len(readings[0].ttft_ms),
            "visits_per_round": visits.count,
            "cold_steps": visits.cold,
            "counted_steps": visits.counted,
            "warmup_rounds": warmup,
            "warmed_up": steady,
            "processes": len(set(readings[0].process)),
            "ended_by": ended_by,
            "asked_half_width": self.half_width,
            "estimator": ESTIMATOR,
            "milliseconds": "own readings" if len(turns.processes) == 1 else "base's pooled median / speedup",
            "priority": "raised" if turns.hurried else "usual",
            "cautions": [
                *timing_cautions(stolen_share, frequency_governor(), steady, [process.ttft_ms for process in readings]),
                *core_cautions(facts.get("core_distance", {}), len(distances)),
            ],
            "stolen_share": round(stolen_share, 4),
            "foreign_cores": round(float(np.mean([process.foreign_cores for process in readings])), 3),
            **facts,
        }
        return self._summarise(readings, moved, protocol)

    def _process_count(self, processes: Sequence[TimedProcess]) -> int:
        """How many processes each model gets: new ones every few seconds, unless the models take long to load."""
        if len(processes) == 1:
            return 1
        seconds = max(PROCESS_SECONDS, PER_LOAD * sum(process.load_seconds for process in processes))
        return max(1, min(round(self.max_seconds / seconds), MAX_PROCESSES))

    def _rounds(
        self,
        turns: Interleaver[TimedProcess],
        prompt: Sequence[int],
        readings: Sequence[Readings],
        rng: np.random.Generator,
        started: float,
        process_count: int,
    ) -> str:
        """Rounds until the half-width is reached or time or rounds are spent; returns which it was."""
        spent = 0.0
        for start in range(process_count):
            if start:
                turns.restart(rng)
                held = turns.reserve(self.prompt_tokens)
                started = self.clock()
                self._wake(turns, prompt[:WAKING_TOKENS] if held else prompt, readings[0].visits)
            share = (start + 1) / process_count
            distances = readings[0].core_distance
            needed, rounds, kept = share * MIN_ROUNDS, len(distances), turns.kept(distances)
            while (
                spent + self.clock() - started < share * self.max_seconds
                or (kept < needed and rounds < MOST_TRIES * needed)
                or start not in readings[0].process
            ):
                self._round(turns, prompt, readings, rng, start)
                rounds, kept = rounds + 1, turns.kept(distances)
                if kept >= MIN_ROUNDS and kept % CHECK_EVERY == 0 and self._precise(readings, turns):
                    return "half_width"
                if self.max_rounds is not None and (kept >= self.max_rounds or rounds >= MOST_TRIES * self.max_rounds):
                    return "max_rounds"
            spent += self.clock() - started
        return "max_seconds"

    def _round(
        self,
        turns: Interleaver[TimedProcess],
        prompt: Sequence[int],
        readings: Sequence[Readings],
        rng: np.random.Generator,
        process: int,
    ) -> None:
        """A prefill of each process, then visits of decode, the order of each pair left to chance."""
        turns.change_core(rng)
        _, start = turns.settle()
        distances = [start]
        for index in rng.permutation(len(readings)):
            timing = turns.pause_others(index).prefill(prompt, self.new_tokens)
            readings[index].ttft_ms.append(timing.ms[0])
            readings[index].foreign_cores.append(timing.foreign_cores)
            readings[index].process.append(process)
        visits = readings[0].visits
        for _ in range(visits.count):
            distances += turns.settle()
            for index in rng.permutation(len(readings)):
                readings[index].step_ms.append(turns.pause_others(index).decode(visits.steps).ms)
        distance = oddest([*distances, turns.look()])
        for each in readings:
            each.core_distance.append(distance)

    def _wake(self, turns: Interleaver[TimedProcess], prompt: Sequence[int], visits: Visits) -> None:
        """Let fresh processes run once."""
        for index in range(len(turns.processes)):
            turns.pause_others(index).prefill(prompt, self.new_tokens)
            turns.pause_others(index).decode(visits.steps)

    def _warm_up(self, turns: Interleaver[TimedProcess], prompt: Sequence[int]) -> tuple[Visits, int, bool]:
        """Run rounds that do not count until no process is still getting faster, by its own times.

        Returns:
            How rounds visit the processes, the number of rounds run, and whether the processes had become steady.
        """
        turns.reserve(self.prompt_tokens)
        started = self.clock()
        steps = min(WARMUP_STEPS, self.new_tokens - 1)
        last: list[float] = []
        steady = False
        rounds = 0
        while rounds < MAX_WARMUP_ROUNDS:
            rounds += 1
            prefills, decodes = [], []
            for index in range(len(turns.processes)):
                prefills += turns.pause_others(index).prefill(prompt, self.new_tokens).ms
                decodes.append(turns.pause_others(index).decode(steps).ms)
            now = [prefill + sum(decode) for prefill, decode in zip(prefills, decodes, strict=True)]
            steady = bool(last) and all(new > 0.95 * old for new, old in zip(now, last, strict=True))
            late = rounds >= MIN_WARMUP_ROUNDS and self.clock() - started > WARMUP_SHARE * self.max_seconds
            if steady or late:
                break
            last = now
        step_ms = [float(np.median(decode)) for decode in decodes]
        return Visits.fit(sum(prefills), step_ms, self.new_tokens - 1), rounds, steady

    def _precise(self, readings: Sequence[Readings], turns: Interleaver[TimedProcess]) -> bool:
        counted = turns.counted(readings[0].core_distance)
        return _half_width([process.of_rounds(counted) for process in readings]) <= self.half_width

    def _summarise(
        self, readings: Sequence[Readings], moved: Sequence[Readings], protocol: dict[str, Any]
    ) -> list[Measurement]:
        """Measurements of the rounds that count; samples of those in which the cores were ``moved`` are kept beside."""
        base, own = readings[0], readings[-1]
        found = _log_speedups(readings, self.new_tokens)
        protocol = protocol | {"reached_half_width": round(_half_width(readings), 5)}
        ttft, tpot, e2e = (with_neighbours(ratio).exp() for ratio in found)
        if len(readings) == 1:
            ttft_ms, tpot_ms = _centre(np.array(base.ttft_ms)), _centre(base.tpot_ms())
            e2e_ms = _centre(base.e2e_ms(self.new_tokens))
        else:
            pool_ttft, pool_tpot = float(np.median(base.ttft_ms)), float(np.median(base.tpot_ms()))
            if self.base_pool is not None:
                pool_ttft, pool_tpot = self.base_pool.ttft_ms, self.base_pool.tpot_ms
            ttft_ms, tpot_ms = _divided(pool_ttft, ttft), _divided(pool_tpot, tpot)
            e2e_ms = _divided(pool_ttft + (self.new_tokens - 1) * pool_tpot, e2e)
        raw = _raw(base, own)
        if moved[0].ttft_ms:
            raw["cores_moved"] = _raw(moved[0], moved[-1])
        prefill, decode = _rate(self.prompt_tokens, ttft_ms), _rate(1, tpot_ms)
        ratios = [np.exp(_paired(base.ttft_ms, own.ttft_ms)), np.exp(_paired(base.tpot_ms(), own.tpot_ms()))]
        of_ttft, of_tpot, of_e2e = (protocol | {"neighbours": round(neighbours(ratio.value), 6)} for ratio in found)
        return [
            _measurement("ttft_ms", "ms", ttft_ms, own.ttft_ms, of_ttft),
            _measurement("tpot_ms", "ms", tpot_ms, own.tpot_ms(), of_tpot | {"samples": raw}),
            _measurement("e2e_ms", "ms", e2e_ms, (), of_e2e),
            _measurement("prefill_tok_s", "tok/s", prefill, (), of_ttft),
            _measurement("decode_tok_s", "tok/s", decode, (), of_tpot),
            _measurement("ttft_speedup", "ratio", ttft, ratios[0], of_ttft),
            _measurement("tpot_speedup", "ratio", tpot, ratios[1], of_tpot),
            _measurement("e2e_speedup", "ratio", e2e, (), of_e2e),
        ]


def _raw(base: Readings, own: Readings) -> dict[str, Any]:
    """Every sample of some rounds."""
    return {
        "base_ttft_ms": _rounded(base.ttft_ms),
        "base_step_ms": [_rounded(steps) for steps in base.step_ms],
        "process": base.process,
        "core_distance": [None if math.isnan(d) else round(d, 2) for d in base.core_distance],
        "ttft_ms": _rounded(own.ttft_ms),
        "step_ms": [_rounded(steps) for steps in own.step_ms],
    }


def _paired(base: Sequence[float] | Floats, own: Sequence[float] | Floats) -> Floats:
    ratio: Floats = np.log(np.asarray(base) / np.asarray(own))
    return ratio


def _log_speedups(readings: Sequence[Readings], new_tokens: int) -> tuple[Interval, Interval, Interval]:
    """Log speedups in prefill, decode and end to end, with what further rounds may narrow alone."""
    base, own = readings[0], readings[-1]
    if len(readings) == 1:
        return (Interval(0.0, 0.0, 0.0),) * 3
    processes = effective(base.process)
    return (
        prefill_speedup(np.asarray(base.ttft_ms), np.asarray(own.ttft_ms), processes),
        decode_speedup(base.tpot_ms(), own.tpot_ms(), processes),
        e2e_speedup(base.e2e_ms(new_tokens), own.e2e_ms(new_tokens), processes),
    )


def _half_width(readings: Sequence[Readings]) -> float:
    """The wider of prefill's and decode's log intervals: of the speedups, or of the times of a base alone."""
    if len(readings) == 1:
        found = [hodges_lehmann(np.log(times)) for times in (readings[0].ttft_ms, readings[0].tpot_ms())]
    else:
        found = list(_log_speedups(readings, 1)[:2])
    return max(interval.half_width for interval in found)


def _centre(samples: Floats) -> Interval:
    return hodges_lehmann(np.log(samples)).exp()


def _divided(milliseconds: float, speedup: Interval) -> Interval:
    return Interval(milliseconds / speedup.value, milliseconds / speedup.high, milliseconds / speedup.low)


def _rate(tokens: int, time_ms: Interval) -> Interval:
    return _divided(1e3 * tokens, time_ms)


def _rounded(samples: Sequence[float]) -> list[float]:
    return [round(sample, 4) for sample in samples]


def _measurement(
    metric: str, unit: str, interval: Interval, samples: Sequence[float] | Floats, protocol: dict[str, Any]
) -> Measurement:
    plain = tuple(round(float(sample), 5) for sample in samples)
    return Measurement(metric, unit, interval.value, interval.low, interval.high, plain, protocol)
