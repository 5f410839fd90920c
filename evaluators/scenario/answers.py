"""Latency over whole answers: the paired times of a token, and what guesses gain on a model's own answers to prompts.

Without guesses every step gives one token, and short visits beside the base tell the time of one
(:mod:`olivine.evaluators.latency.decoder`). With guesses a step gives several where the text repeats itself, so only
whole answers to real prompts tell their gain: a candidate that guesses answers each prompt with and without guesses, in
turns. Its time per token is that of a step divided by the gain; a gain of exactly 1 is that of every other candidate.
So all candidates of a study have one metric by one estimate, whether they guess or not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, ClassVar

from olivine.evaluators.latency.decoder import PairedDecoderLatency
from olivine.evaluators.latency.interleave import Interleaver
from olivine.evaluators.latency.speedup import widened
from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.messages import TimedAnswer
from olivine.evaluators.process.protocols import AnsweringProcess
from olivine.evaluators.scenario.guesses import NONE, Gain, Guessing, time_ways
from olivine.evaluators.scenario.prompts import LEAST_ANSWERS
from olivine.evaluators.stats import LEVEL, Interval
from olivine.passes.errors import UsageError
from olivine.passes.sources.genai_folder import read_genai_config

#: Answers to each prompt, with guesses and without: what prompts differ by is far more than noise.
ROUNDS = 1
_NORMAL = NormalDist().inv_cdf((1 + LEVEL) / 2)
_MULTIPLIED, _DIVIDED = ("tpot_speedup", "decode_tok_s"), ("tpot_ms",)


@dataclass(frozen=True)
class AnswerLatency:
    """Times of a candidate beside the base, over whole answers where it guesses tokens.

    Attributes:
        steps: the paired times of a prompt and of a token without guesses.
        prompts: token ids of the prompts that are answered.
    """

    steps: PairedDecoderLatency
    prompts: tuple[tuple[int, ...], ...]

    name: ClassVar[str] = "latency"
    metrics: ClassVar[tuple[str, ...]] = (*PairedDecoderLatency.metrics, "tokens_per_step")

    def evaluate(self, candidate: AnsweringProcess, reference: AnsweringProcess) -> list[Measurement]:
        """Measure ``candidate`` beside ``reference``, which may be the same.

        Raises:
            ModelProcessFailed: when a process died, hung or gave an answer that can't be read.
            UsageError: when too few answers are long enough to be timed.
        """
        measured = self.steps.evaluate(candidate, reference)
        way = NONE if candidate.folder is None else Guessing.of(read_genai_config(candidate.folder))
        if way == NONE:
            about = {"guesses": "none"}
            return [*measured, Measurement.exact("tokens_per_step", "tokens", 1.0, **about)]
        return with_gain(measured, self._gain(candidate, reference, way), self.steps.new_tokens)

    def _gain(self, candidate: AnsweringProcess, reference: AnsweringProcess, way: Guessing) -> Gain:
        """Time the candidate's answers while the reference stands still."""
        processes = [candidate] if candidate is reference else [reference, candidate]
        interleaver = Interleaver(processes, self.steps.core_watch)

        def answer(prompt: Sequence[int], by: Guessing) -> TimedAnswer:
            interleaver.wait_until_adjacent()
            process = interleaver.pause_others(len(processes) - 1)
            return process.answer(prompt, self.steps.new_tokens, by.ngram_size, by.max_draft_tokens)

        with interleaver.ahead_of_others(self.steps.max_seconds):
            answer(self.prompts[0], way)  # wakes threads and caches, and does not count
            (gain,) = time_ways(answer, self.prompts, [way], ROUNDS, self.steps.seed)
        if gain.prompts < LEAST_ANSWERS:
            raise UsageError(
                f"guesses are timed on whole answers, and only {gain.prompts} of {len(self.prompts)} prompts have one "
                f"that is long enough; {LEAST_ANSWERS} are needed. Give more prompts, or such as ask for longer answers"
            )
        return gain


def with_gain(measured: Sequence[Measurement], gain: Gain, new_tokens: int) -> list[Measurement]:
    """The times of a model as they are with guesses.

    Args:
        measured: its times without them.
        gain: of the guesses in decode, whose interval is that of prompts such as these.
        new_tokens: of an answer, for the times end to end.
    """
    by_name = {m.metric: m for m in measured}
    decoded = (new_tokens - 1) * by_name["tpot_ms"].value / gain.speedup.value
    share = decoded / (by_name["ttft_ms"].value + decoded)
    deviation = math.log(gain.speedup.high / gain.speedup.value) / _NORMAL
    about = {"guesses": _about(gain)}
    whole = by_name["e2e_ms"].value / (by_name["ttft_ms"].value + decoded)
    factors = {**dict.fromkeys(_MULTIPLIED, gain.speedup.value), **dict.fromkeys(_DIVIDED, 1 / gain.speedup.value)}
    factors |= {"e2e_ms": 1 / whole, "e2e_speedup": whole}
    changed = []
    for m in measured:
        if m.metric in factors:
            spread = deviation * (share if m.metric.startswith("e2e") else 1.0)
            changed.append(_scaled(m, factors[m.metric], spread, about))
        else:
            changed.append(m)
    steps = gain.tokens_per_step
    of_steps = math.log(steps.high / steps.value) / _NORMAL
    told = Measurement.of("tokens_per_step", steps, (), about | {"neighbours": round(of_steps, 6)})
    return [*changed, told]


def _scaled(m: Measurement, factor: float, deviation: float, about: dict[str, Any]) -> Measurement:
    """A measurement times a factor whose logarithm has an error, which measuring the same prompts again keeps."""
    interval = Interval(math.log(m.value), math.log(m.low) if m.low > 0 else -math.inf, math.log(m.high))
    wider = widened(interval, deviation).exp()
    value, low, high = (end * factor for end in (wider.value, wider.low, wider.high))
    shared = math.hypot(float(m.protocol.get("neighbours", 0.0)), deviation)
    protocol = {**m.protocol, **about, "neighbours": round(shared, 6)}
    return replace(m, value=value, low=low, high=high, protocol=protocol)


def _about(gain: Gain) -> dict[str, Any]:
    """The gain for a protocol."""
    return {
        "ngram_size": gain.guessing.ngram_size,
        "max_draft_tokens": gain.guessing.max_draft_tokens,
        "gain": round(gain.speedup.value, 5),
        "gain_low": round(gain.speedup.low, 5),
        "gain_high": round(gain.speedup.high, 5),
        "gain_by_prompt": [round(each, 4) for each in gain.by_prompt],
        "tokens_per_step": round(gain.tokens_per_step.value, 4),
        "right_guesses": round(gain.right, 4),
        "same_answers": gain.same,
        "prompts": gain.prompts,
        "timed": "whole greedy answers of the candidate, with and without guesses in turns",
        "interval": "Student's over the logarithms by prompt: that of prompts such as these",
    }
