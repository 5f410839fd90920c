"""Rounds of a language model: a prefill of each model, then a few short visits of decode to each.

In every pair of visits a coin says who is first. The first steps of a visit fill the caches and wake the threads, and
do not count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from olivine.evaluators.latency.rounds import Pair, PairedRounds
from olivine.evaluators.latency.speedup import (
    decode_speedup,
    e2e_speedup,
    kish_effective_count,
    lower_half_mean,
    prefill_speedup,
)
from olivine.evaluators.process.protocols import TimedProcess
from olivine.evaluators.stats import Floats, Interval, hodges_lehmann

#: Milliseconds of a visit's first steps, which don't count, and of those that do, for the faster model.
COLD_MS, COUNTED_MS = 10.0, 15.0
MIN_COUNTED = 2
#: Time that a round spends in decode, relative to its prefills: pairs of prefills are the scarce ones.
DECODE_SHARE = 0.5
MIN_WARMUP_ROUNDS, MAX_WARMUP_ROUNDS = 2, 5
#: Share of the time budget after which warm-up ends, steady or not.
WARMUP_SHARE = 0.15
#: A round of warm-up that takes at least this share of the one before it is steady.
STEADY_SHARE = 0.95
#: Decode steps of a warm-up round.
WARMUP_STEPS = 4
#: Prompt tokens that a fresh process runs before it is timed, where the memory for whole prompts is held already.
WAKING_TOKENS = 8


@dataclass(frozen=True)
class Visits:
    """The visits of decode in a round.

    Attributes:
        count: visits after each prefill.
        cold: steps at a visit's start that do not count.
        counted: steps that do.
    """

    count: int
    cold: int
    counted: int

    @property
    def steps(self) -> int:
        """Steps of one visit."""
        return self.cold + self.counted

    @classmethod
    def fit(cls, prefill_ms: float, step_ms: Sequence[float], room: int) -> Visits:
        """Choose visits for models of such times, in which none generates more than ``room`` tokens after a prefill."""
        fastest = min(step_ms)
        cold = min(math.ceil(COLD_MS / fastest), room // 3)
        counted = min(max(MIN_COUNTED, math.ceil(COUNTED_MS / fastest)), room - cold)
        fitting = DECODE_SHARE * prefill_ms / ((cold + counted) * sum(step_ms))
        return cls(max(1, min(round(fitting), room // (cold + counted))), cold, counted)


@dataclass
class Readings:
    """Every sample of one model, in milliseconds.

    Attributes:
        visits: of a round.
        ttft_ms: [rounds].
        step_ms: [rounds * visits][steps], cold steps included.
        foreign_cores: [rounds] cores that other programs kept busy during prefill.
    """

    visits: Visits
    ttft_ms: list[float] = field(default_factory=list)
    step_ms: list[list[float]] = field(default_factory=list)
    foreign_cores: list[float] = field(default_factory=list)

    def of_rounds(self, chosen: Sequence[bool]) -> Readings:
        """The readings of the rounds for which [rounds] ``chosen`` holds."""
        rounds = [number for number, wanted in enumerate(chosen) if wanted]
        count = self.visits.count
        visits = [number * count + visit for number in rounds for visit in range(count)]
        return Readings(
            self.visits,
            [self.ttft_ms[number] for number in rounds],
            [self.step_ms[number] for number in visits],
            [self.foreign_cores[number] for number in rounds],
        )

    def tpot_ms(self) -> Floats:
        """[rounds * visits] mean of the faster half of the steps that count."""
        return np.array([float(lower_half_mean(np.array(steps[self.visits.cold :]))) for steps in self.step_ms])

    def e2e_ms(self, new_tokens: int) -> Floats:
        """[rounds] time to ``new_tokens`` tokens, by a round's prefill and its visits."""
        per_round = self.tpot_ms().reshape(-1, self.visits.count).mean(axis=1)
        e2e: Floats = np.array(self.ttft_ms) + (new_tokens - 1) * per_round
        return e2e


class DecoderRounds(PairedRounds[TimedProcess]):
    """Rounds of one prompt.

    Attributes:
        new_tokens: tokens that a model generates after the prompt, at most.
        prompt: token ids.
        visits: of a round, from the warm-up on.
        readings: [models] every sample, the reference first.
        warmup_rounds: rounds of the warm-up.
        warmed_up: whether it ended because the models had become steady.
    """

    def __init__(self, pair: Pair[TimedProcess], prompt: int | Sequence[int], new_tokens: int) -> None:
        """Take the token ids of a prompt, or its length, for random ones."""
        super().__init__(pair)
        self.new_tokens = new_tokens
        vocab_size = min(process.vocab_size for process in self.interleaver.processes)
        ids = self.rng.integers(0, vocab_size, prompt) if isinstance(prompt, int) else prompt
        self.prompt = [int(token) for token in ids]
        self.readings: list[Readings] = []
        self.visits = Visits(1, 0, 1)
        self.warmup_rounds = 0
        self.warmed_up = False
        self._held = False

    def warm_up(self) -> None:
        """Run rounds that do not count until no model is still getting faster, by its own times."""
        self.reserve()
        clock, started = self.budget.clock, self.budget.clock()
        steps = min(WARMUP_STEPS, self.new_tokens - 1)
        last: list[float] = []
        late = False
        while not (self.warmed_up or late or self.warmup_rounds == MAX_WARMUP_ROUNDS):
            self.warmup_rounds += 1
            prefills, decodes = self._run_all(self.prompt, steps)
            now = [prefill + sum(decode) for prefill, decode in zip(prefills, decodes, strict=True)]
            self.warmed_up = bool(last) and all(new > STEADY_SHARE * old for new, old in zip(now, last, strict=True))
            late = clock() - started > WARMUP_SHARE * self.budget.max_seconds
            late &= self.warmup_rounds >= MIN_WARMUP_ROUNDS
            last = now
        step_ms = [float(np.median(decode)) for decode in decodes]
        self.visits = Visits.fit(sum(prefills), step_ms, self.new_tokens - 1)
        self.readings = [Readings(self.visits) for _ in self.interleaver.processes]

    def reserve(self) -> None:
        """Let every process hold memory for the prompt."""
        self._held = self.interleaver.reserve(len(self.prompt))

    def wake(self) -> None:
        """Let fresh processes run a prompt, short where memory for a whole one is held, and a visit."""
        self._run_all(self.prompt[:WAKING_TOKENS] if self._held else self.prompt, self.visits.steps)

    def _run_all(self, prompt: Sequence[int], steps: int) -> tuple[list[float], list[list[float]]]:
        """Run every model in order; returns milliseconds of its prefill and of its decode steps."""
        prefills, decodes = [], []
        for index in range(len(self.interleaver.processes)):
            process = self.interleaver.pause_others(index)
            prefills += process.prefill(prompt, self.new_tokens).ms
            decodes.append(process.decode(steps).ms)
        return prefills, decodes

    def take(self) -> list[float]:
        """Take a round, the order of each pair left to chance; returns the distances of the cores."""
        _, start = self.interleaver.wait_until_adjacent()
        distances = [start]
        for index in self.rng.permutation(len(self.readings)):
            timing = self.interleaver.pause_others(index).prefill(self.prompt, self.new_tokens)
            self.readings[index].ttft_ms.append(timing.ms[0])
            self.readings[index].foreign_cores.append(timing.foreign_cores)
        for _ in range(self.visits.count):
            distances += self.interleaver.wait_until_adjacent()
            for index in self.rng.permutation(len(self.readings)):
                timing = self.interleaver.pause_others(index).decode(self.visits.steps)
                self.readings[index].step_ms.append(timing.ms)
        return distances

    def counted_readings(self) -> list[Readings]:
        """[models] samples of the rounds that count."""
        counted = self.counted().tolist()
        return [readings.of_rounds(counted) for readings in self.readings]

    def half_width(self) -> float:
        """The wider of prefill's and decode's log intervals: of the speedups, or of the times of a base alone."""
        if self.alone:
            (readings,) = self.counted_readings()
            intervals = [hodges_lehmann(np.log(times)) for times in (readings.ttft_ms, readings.tpot_ms())]
        else:
            intervals = self.log_speedups()[:2]
        return max(interval.half_width for interval in intervals)

    def log_speedups(self) -> list[Interval]:
        """Log speedups in prefill, decode and end to end, without the noisy neighbours that no round narrows."""
        if self.alone:
            return [Interval(0.0, 0.0, 0.0)] * 3
        base, own = self.counted_readings()
        processes = kish_effective_count(self.counted_processes())
        return [
            prefill_speedup(np.asarray(base.ttft_ms), np.asarray(own.ttft_ms), processes),
            decode_speedup(base.tpot_ms(), own.tpot_ms(), processes),
            e2e_speedup(base.e2e_ms(self.new_tokens), own.e2e_ms(self.new_tokens), processes),
        ]
