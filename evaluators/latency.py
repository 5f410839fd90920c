"""Paired latency: the candidate and the resident base take turns, so that the machine's drift cancels.

A round is one prefill of each arm, then short alternating visits of decode, in an order drawn at random; the
two readings of a round are a pair. The speedup is estimated from the faster half of the readings, its
interval by swapping the arms within rounds (:func:`olivine.evaluators.stats.paired_speedup`). Before an arm's
turn the other one comes to rest: its threads would spin on the same cores for some 30 ms.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from olivine.evaluators.answers import Timing
from olivine.evaluators.base import Measurement
from olivine.evaluators.base_pool import BasePool
from olivine.evaluators.stats import Floats, Interval, hodges_lehmann, lower_half_mean, paired_speedup

#: Rounds below this can't give a 95 % signed-rank interval that is not just the extremes.
MIN_ROUNDS = 8
MAX_WARMUP_ROUNDS = 5
#: Share of the time budget after which warm-up ends, steady or not.
WARMUP_SHARE = 0.25
#: Decode steps of an arm in a round: as many as take the time of a prefill, within these.
MIN_STEPS, MAX_STEPS = 4, 16
#: Rounds between looks at the interval's width.
CHECK_EVERY = 4


class TimedArm(Protocol):
    """What latency needs of an arm: :class:`olivine.evaluators.arm.Arm`, or a simulated one in tests."""

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        ...

    def prefill(self, tokens: Sequence[int], room: int = 64) -> Timing:
        """Run a prompt to its first token."""
        ...

    def decode(self, steps: int) -> Timing:
        """Generate further tokens."""
        ...

    def settle(self) -> None:
        """Wait until the arm's threads no longer spin."""
        ...


@dataclass
class Readings:
    """Every sample of one arm: milliseconds, one row per round.

    Attributes:
        ttft_ms: [rounds].
        step_ms: [rounds][steps].
        foreign_cores: [rounds] cores that other programs kept busy during prefill.
    """

    ttft_ms: list[float] = field(default_factory=list)
    step_ms: list[list[float]] = field(default_factory=list)
    foreign_cores: list[float] = field(default_factory=list)

    def tpot_ms(self) -> Floats:
        """[rounds] mean of the faster half of a round's steps: an average without the worst interference."""
        return np.array([float(lower_half_mean(np.array(steps))) for steps in self.step_ms])


@dataclass(frozen=True)
class PairedLatency:
    """Speedups of a candidate over the base, and its times in milliseconds.

    Attributes:
        prompt_tokens: length of the prompt.
        new_tokens: tokens a user asks for; decode is timed at these depths and ``e2e_ms`` is for all of them.
        half_width: stop when the 95 % intervals of both log ratios are at most this on either side.
        max_seconds: stop when measuring (warm-up included) has taken this long, but not before 8 rounds.
        seed: of prompt and order.
        base_pool: the base's readings over the whole study; milliseconds are its pooled reading times the
            ratio.
        max_rounds: stop after this many rounds; None for no such limit.
        clock: seconds, for the budget.
    """

    prompt_tokens: int = 128
    new_tokens: int = 32
    half_width: float = 0.02
    max_seconds: float = 10.0
    seed: int = 0
    base_pool: BasePool | None = None
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

    def evaluate(self, candidate: TimedArm, reference: TimedArm) -> list[Measurement]:
        """Measure until the half-width is reached or the time is spent; the protocol says which.

        ``candidate is reference`` is allowed: its speedups are exactly 1, its times are its own readings.
        """
        rng = np.random.default_rng(self.seed)
        arms = [reference] if candidate is reference else [reference, candidate]
        vocab_size = min(arm.vocab_size for arm in arms)
        prompt = [int(token) for token in rng.integers(0, vocab_size, self.prompt_tokens)]
        started = self.clock()
        steps, warmup = self._warm_up(arms, prompt)
        readings = [Readings() for _ in arms]
        ended_by = "max_seconds"
        backwards = False
        while self.clock() - started < self.max_seconds or len(readings[0].ttft_ms) < MIN_ROUNDS:
            rounds = len(readings[0].ttft_ms)
            # A B then B A, or B A then A B: both orders equally often, which comes first left to chance.
            backwards = bool(rng.integers(2)) if rounds % 2 == 0 else not backwards
            self._round(arms, prompt, steps, readings, backwards)
            if rounds + 1 >= MIN_ROUNDS and rounds % CHECK_EVERY == 0 and self._precise(readings):
                ended_by = "half_width"
                break
            if self.max_rounds is not None and rounds + 1 >= self.max_rounds:
                ended_by = "max_rounds"
                break
        if self.base_pool is not None:
            self.base_pool.add(readings[0].ttft_ms, readings[0].tpot_ms().tolist())
        protocol = {
            "prompt_tokens": self.prompt_tokens,
            "new_tokens": self.new_tokens,
            "steps_per_round": steps,
            "rounds": len(readings[0].ttft_ms),
            "warmup_rounds": warmup,
            "ended_by": ended_by,
            "asked_half_width": self.half_width,
            "estimator": "lower-half means of paired log times, 95 % randomisation interval",
            "milliseconds": "own readings" if len(arms) == 1 else "base's pooled median / speedup",
            "foreign_cores": round(float(np.mean([arm.foreign_cores for arm in readings])), 3),
        }
        return self._summarise(readings, protocol)

    def _round(
        self,
        arms: Sequence[TimedArm],
        prompt: Sequence[int],
        steps: int,
        readings: Sequence[Readings],
        backwards: bool,
    ) -> None:
        """Prefill A B, then decode B A; or all of it the other way round."""
        order = list(range(len(arms)))[:: -1 if backwards else 1]
        for index in order:
            _others_settle(arms, index)
            timing = arms[index].prefill(prompt, self.new_tokens)
            readings[index].ttft_ms.append(timing.ms[0])
            readings[index].foreign_cores.append(timing.foreign_cores)
        for index in reversed(order):
            _others_settle(arms, index)
            readings[index].step_ms.append(arms[index].decode(steps).ms)

    def _warm_up(self, arms: Sequence[TimedArm], prompt: Sequence[int]) -> tuple[int, int]:
        """Run rounds that do not count until no arm is still getting faster, by its own times.

        Returns:
            Decode steps of an arm in a round, and the number of rounds run.
        """
        started = self.clock()
        steps = min(MIN_STEPS, self._most_steps())
        last: list[float] = []
        rounds = 0
        while rounds < MAX_WARMUP_ROUNDS:
            rounds += 1
            now, fit = [], []
            for index, arm in enumerate(arms):
                _others_settle(arms, index)
                prefill, decode = arm.prefill(prompt, self.new_tokens).ms, arm.decode(steps).ms
                now.append(sum(prefill + decode))
                fit.append(sum(prefill) / float(np.median(decode)))
            steady = last and all(new > 0.95 * old for new, old in zip(now, last, strict=True))
            if steady or self.clock() - started > WARMUP_SHARE * self.max_seconds:
                break
            last = now
        return max(steps, min(round(min(fit)), self._most_steps())), rounds

    def _most_steps(self) -> int:
        return min(MAX_STEPS, max(1, self.new_tokens - 1))

    def _precise(self, readings: Sequence[Readings]) -> bool:
        return all(ratio.half_width <= self.half_width for ratio in _log_speedups(readings)[:2])

    def _summarise(self, readings: Sequence[Readings], protocol: dict[str, Any]) -> list[Measurement]:
        base, own = readings[0], readings[-1]
        ttft, tpot, e2e = (ratio.exp() for ratio in _log_speedups(readings, self.new_tokens - 1))
        if len(readings) == 1:
            ttft_ms, tpot_ms = _centre(np.array(base.ttft_ms)), _centre(base.tpot_ms())
            e2e_ms = _centre(np.array(base.ttft_ms) + (self.new_tokens - 1) * base.tpot_ms())
        else:
            pool_ttft, pool_tpot = float(np.median(base.ttft_ms)), float(np.median(base.tpot_ms()))
            if self.base_pool is not None:
                pool_ttft, pool_tpot = self.base_pool.ttft_ms, self.base_pool.tpot_ms
            ttft_ms, tpot_ms = _divided(pool_ttft, ttft), _divided(pool_tpot, tpot)
            e2e_ms = _divided(pool_ttft + (self.new_tokens - 1) * pool_tpot, e2e)
        raw = {
            "base_ttft_ms": _rounded(base.ttft_ms),
            "base_step_ms": [_rounded(steps) for steps in base.step_ms],
            "ttft_ms": _rounded(own.ttft_ms),
            "step_ms": [_rounded(steps) for steps in own.step_ms],
        }
        prefill, decode = _rate(self.prompt_tokens, ttft_ms), _rate(1, tpot_ms)
        return [
            _measurement("ttft_ms", "ms", ttft_ms, own.ttft_ms, protocol),
            _measurement("tpot_ms", "ms", tpot_ms, own.tpot_ms(), protocol | {"samples": raw}),
            _measurement("e2e_ms", "ms", e2e_ms, (), protocol),
            _measurement("prefill_tok_s", "tok/s", prefill, (), protocol),
            _measurement("decode_tok_s", "tok/s", decode, (), protocol),
            _measurement("ttft_speedup", "ratio", ttft, np.exp(_paired(base.ttft_ms, own.ttft_ms)), protocol),
            _measurement("tpot_speedup", "ratio", tpot, np.exp(_paired(base.tpot_ms(), own.tpot_ms())), protocol),
            _measurement("e2e_speedup", "ratio", e2e, (), protocol),
        ]


def _others_settle(arms: Sequence[TimedArm], index: int) -> None:
    for other, arm in enumerate(arms):
        if other != index:
            arm.settle()


def _paired(base: Sequence[float] | Floats, own: Sequence[float] | Floats) -> Floats:
    ratio: Floats = np.log(np.asarray(base) / np.asarray(own))
    return ratio


def _log_speedups(readings: Sequence[Readings], steps: int = 0) -> tuple[Interval, Interval, Interval]:
    """Log speedups in prefill, decode and end to end."""
    base, own = readings[0], readings[-1]
    if len(readings) == 1:
        return (Interval(0.0, 0.0, 0.0),) * 3
    whole = [np.asarray(arm.ttft_ms) + steps * arm.tpot_ms() for arm in (base, own)]
    return (
        paired_speedup(np.asarray(base.ttft_ms), np.asarray(own.ttft_ms)),
        paired_speedup(base.tpot_ms(), own.tpot_ms()),
        paired_speedup(whole[0], whole[1]),
    )


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
