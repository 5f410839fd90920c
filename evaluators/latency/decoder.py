"""Paired latency: the candidate and the resident base take turns, so that the machine's drift cancels.

While one model runs the other one stands still. After some seconds both go on in fresh processes: a process is fast or
slow for as long as it lives. :mod:`olivine.evaluators.latency.speedup` makes speedups and intervals of the times.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from olivine.evaluators.latency.baseline_times import BaselineTimes
from olivine.evaluators.latency.core_placement import THIS_MACHINE, CoreWatch
from olivine.evaluators.latency.decoder_rounds import DecoderRounds, Readings
from olivine.evaluators.latency.rounds import Budget, Pair
from olivine.evaluators.latency.speedup import divided, noisy_neighbour_sd, with_noisy_neighbours
from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.protocols import TimedProcess
from olivine.evaluators.stats import hodges_lehmann

#: Of samples, after the point.
DIGITS = 5


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
        baseline_times: the base's times over the whole study; milliseconds are its pooled time over the speedup.
        max_rounds: stop after this many rounds that count, or three times as many; None for no such limit.
        prompt: token ids of the prompt that is timed; empty for random ones.
        clock: seconds, for the budget.
        core_watch: of the cores that the models run on.
    """

    prompt_tokens: int = 128
    new_tokens: int = 32
    half_width: float = 0.02
    max_seconds: float = 10.0
    seed: int = 0
    baseline_times: BaselineTimes | None = None
    max_rounds: int | None = None
    prompt: tuple[int, ...] = ()
    clock: Callable[[], float] = field(default=time.monotonic, repr=False, compare=False)
    core_watch: CoreWatch = field(default=THIS_MACHINE, repr=False, compare=False)

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

        Raises:
            ModelProcessFailed: when a process died, hung or gave an answer that can't be read.
        """
        budget = Budget(self.half_width, self.max_seconds, self.clock, self.max_rounds)
        pair = Pair(candidate, reference, budget, self.seed, self.core_watch)
        rounds = DecoderRounds(pair, self.prompt or self.prompt_tokens, self.new_tokens)
        rounds.measure()
        if self.baseline_times is not None:
            base = rounds.counted_readings()[0]
            self.baseline_times.add(base.ttft_ms, base.tpot_ms().tolist())
        return self._measurements(rounds)

    def _protocol(self, rounds: DecoderRounds) -> dict[str, Any]:
        readings = rounds.counted_readings()
        shared = rounds.protocol([each.ttft_ms for each in readings], "prefill", rounds.warmed_up)
        return {
            "prompt_tokens": len(rounds.prompt),
            "new_tokens": self.new_tokens,
            "visits_per_round": rounds.visits.count,
            "cold_steps": rounds.visits.cold,
            "counted_steps": rounds.visits.counted,
            "warmup_rounds": rounds.warmup_rounds,
            "warmed_up": rounds.warmed_up,
            "milliseconds": "own readings" if rounds.alone else "base's pooled median / speedup",
            "foreign_cores": round(float(np.mean([each.foreign_cores for each in readings])), 3),
            "reached_half_width": round(rounds.half_width(), 5),
            **shared,
        }

    def _measurements(self, rounds: DecoderRounds) -> list[Measurement]:
        base, *_, own = 2 * rounds.counted_readings()
        log_speedups, protocol = rounds.log_speedups(), self._protocol(rounds)
        ttft, tpot, e2e = (with_noisy_neighbours(speedup).exp() for speedup in log_speedups)
        if rounds.alone:
            times = (np.array(base.ttft_ms), base.tpot_ms(), base.e2e_ms(self.new_tokens))
            ttft_ms, tpot_ms, e2e_ms = (hodges_lehmann(np.log(samples)).exp() for samples in times)
        else:
            pool_ttft, pool_tpot = self._base_ms(base)
            ttft_ms, tpot_ms = divided(pool_ttft, ttft), divided(pool_tpot, tpot)
            e2e_ms = divided(pool_ttft + (self.new_tokens - 1) * pool_tpot, e2e)
        of_ttft, of_tpot, of_e2e = (
            protocol | {"neighbours": round(noisy_neighbour_sd(speedup.value), 6)} for speedup in log_speedups
        )
        ttft_ratios = np.asarray(base.ttft_ms) / np.asarray(own.ttft_ms)
        return [
            Measurement.of("ttft_ms", ttft_ms, own.ttft_ms, of_ttft, DIGITS),
            Measurement.of("tpot_ms", tpot_ms, own.tpot_ms(), of_tpot | {"samples": _samples(rounds)}, DIGITS),
            Measurement.of("e2e_ms", e2e_ms, (), of_e2e, DIGITS),
            Measurement.of("prefill_tok_s", divided(1e3 * len(rounds.prompt), ttft_ms), (), of_ttft, DIGITS),
            Measurement.of("decode_tok_s", divided(1e3, tpot_ms), (), of_tpot, DIGITS),
            Measurement.of("ttft_speedup", ttft, ttft_ratios, of_ttft, DIGITS),
            Measurement.of("tpot_speedup", tpot, base.tpot_ms() / own.tpot_ms(), of_tpot, DIGITS),
            Measurement.of("e2e_speedup", e2e, (), of_e2e, DIGITS),
        ]

    def _base_ms(self, base: Readings) -> tuple[float, float]:
        """The base's time to first token and per output token: pooled, where the study pools them."""
        if self.baseline_times is not None:
            return self.baseline_times.ttft_ms, self.baseline_times.tpot_ms
        return float(np.median(base.ttft_ms)), float(np.median(base.tpot_ms()))


def _samples(rounds: DecoderRounds) -> dict[str, Any]:
    """Every sample of the rounds that count, and beside them those of rounds in which the cores were elsewhere."""
    counted = rounds.counted().tolist()
    moved = [not counts for counts in counted]
    return _samples_of(rounds, counted) | ({"cores_moved": _samples_of(rounds, moved)} if any(moved) else {})


def _samples_of(rounds: DecoderRounds, chosen: Sequence[bool]) -> dict[str, Any]:
    base, *_, own = 2 * [readings.of_rounds(chosen) for readings in rounds.readings]
    numbers = [number for number, wanted in enumerate(chosen) if wanted]
    distances = [rounds.core_distance[number] for number in numbers]
    return {
        "base_ttft_ms": _rounded(base.ttft_ms),
        "base_step_ms": [_rounded(steps) for steps in base.step_ms],
        "process": [rounds.process[number] for number in numbers],
        "core_distance": [None if math.isnan(distance) else round(distance, 2) for distance in distances],
        "ttft_ms": _rounded(own.ttft_ms),
        "step_ms": [_rounded(steps) for steps in own.step_ms],
    }


def _rounded(samples: Sequence[float]) -> list[float]:
    return [round(sample, 4) for sample in samples]
