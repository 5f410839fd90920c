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
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any, ClassVar

from olivine.evaluators.latency.decoder import PairedDecoderLatency
from olivine.evaluators.latency.interleave import Interleaver
from olivine.evaluators.latency.speedup import widened
from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.messages import TimedAnswer
from olivine.evaluators.process.protocols import AnsweringProcess
from olivine.evaluators.scenario.guesses import MIN_TOKENS, NONE, Gain, Guessing, time_ways
from olivine.evaluators.stats import LEVEL, Interval
from olivine.passes.sources.genai_folder import read_genai_config

#: Answers to each prompt, with guesses and without, of which the faster counts: a hiccup has to hit both to decide.
ROUNDS = 2
#: Answers of which Student's interval tells what prompts differ by.
LEAST_TIMED = 2
_NORMAL = NormalDist().inv_cdf((1 + LEVEL) / 2)


@dataclass(frozen=True)
class Untimed:
    """Guesses whose gain can't be told, since too few answers are long enough.

    Attributes:
        guessing: their options.
        long: prompts with an answer that is long enough to be timed.
        prompts: that were answered.
    """

    guessing: Guessing
    long: int
    prompts: int


@dataclass(frozen=True)
class AnswerLatency:
    """Times of a candidate beside the base, over whole answers where it guesses tokens.

    Attributes:
        steps: the paired times of a prompt and of a token without guesses.
        prompts: token ids of the prompts that are answered.
        reference_gains: by folder, of references that were measured: each answers once for all that stand beside it.
    """

    steps: PairedDecoderLatency
    prompts: tuple[tuple[int, ...], ...]
    reference_gains: dict[Path, Gain | Untimed | None] = field(default_factory=dict, compare=False)

    name: ClassVar[str] = "latency"
    metrics: ClassVar[tuple[str, ...]] = (*PairedDecoderLatency.metrics, "tokens_per_step")

    def evaluate(self, candidate: AnsweringProcess, reference: AnsweringProcess) -> list[Measurement]:
        """Measure ``candidate`` beside ``reference``, which may be the same.

        Raises:
            ModelProcessFailed: when a process died, hung or gave an answer that can't be read.
        """
        measured = self.steps.evaluate(candidate, reference)
        beside = self._of_reference(reference, candidate)
        own = beside if candidate is reference else self._gain(candidate, reference)
        timed = with_gains(measured, own, beside, self.steps.new_tokens)
        if own is None:
            return [*timed, Measurement.exact("tokens_per_step", "tokens", 1.0, guesses="none")]
        if isinstance(own, Untimed):
            return [*timed, Measurement.exact("tokens_per_step", "tokens", 1.0, **_stated("guesses", own))]
        steps = own.tokens_per_step
        about = {"guesses": _about(own), "neighbours": round(math.log(steps.high / steps.value) / _NORMAL, 6)}
        return [*timed, Measurement.of("tokens_per_step", steps, (), about)]

    def _of_reference(self, reference: AnsweringProcess, candidate: AnsweringProcess) -> Gain | Untimed | None:
        if reference.folder is None:
            return None
        if reference.folder not in self.reference_gains:
            self.reference_gains[reference.folder] = self._gain(reference, candidate)
        return self.reference_gains[reference.folder]

    def _gain(self, guessing: AnsweringProcess, other: AnsweringProcess) -> Gain | Untimed | None:
        """Time a model's answers while the other one stands still; None where it makes no guesses."""
        way = NONE if guessing.folder is None else Guessing.of(read_genai_config(guessing.folder))
        if way == NONE:
            return None
        processes = [guessing] if guessing is other else [other, guessing]
        interleaver = Interleaver(processes, self.steps.core_watch)

        def answer(prompt: Sequence[int], by: Guessing) -> TimedAnswer:
            interleaver.wait_until_adjacent()
            process = interleaver.pause_others(len(processes) - 1)
            return process.answer(prompt, self.steps.new_tokens, by.ngram_size, by.max_draft_tokens)

        with interleaver.ahead_of_others(self.steps.max_seconds):
            answer(self.prompts[0], way)  # wakes threads and caches, and does not count
            gains = time_ways(answer, self.prompts, [way], ROUNDS, self.steps.seed)
        long = gains[0].prompts if gains else 0
        return gains[0] if long >= LEAST_TIMED else Untimed(way, long, len(self.prompts))


def with_gains(
    measured: Sequence[Measurement], own: Gain | Untimed | None, beside: Gain | Untimed | None, new_tokens: int
) -> list[Measurement]:
    """The times of a model as they are with guesses, and its speedups over a reference that may guess too.

    Args:
        measured: its times and speedups without them.
        own: of its guesses in decode, whose interval is that of prompts such as these; None where it makes none. One
            that can't be told counts as 1, and is named.
        beside: of the reference's guesses; ``own`` where it is the reference itself, whose speedups stay 1.
        new_tokens: of an answer, for the times end to end.
    """
    value = {m.metric: m.value for m in measured}
    gain, error = _factor(own)
    base_gain, base_error = _factor(beside)
    decoded = (new_tokens - 1) * value["tpot_ms"] / gain
    e2e = value["ttft_ms"] + decoded
    base_ttft = value["ttft_ms"] * value["ttft_speedup"]
    base_decoded = (new_tokens - 1) * value["tpot_ms"] * value["tpot_speedup"] / base_gain
    base_e2e = base_ttft + base_decoded
    share, base_share = decoded / e2e, base_decoded / base_e2e
    factors: dict[str, tuple[float, float]] = {}
    if own is not None:
        factors |= {"tpot_ms": (1 / gain, error), "decode_tok_s": (gain, error)}
        factors["e2e_ms"] = (e2e / value["e2e_ms"], share * error)
    if own is not beside:
        factors["tpot_speedup"] = (gain / base_gain, math.hypot(error, base_error))
        both = math.hypot(share * error, base_share * base_error)
        factors["e2e_speedup"] = (base_e2e / e2e / value["e2e_speedup"], both)
    about = _stated("guesses", own)
    of_base = {} if beside is own else _stated("reference_guesses", beside)
    if not about and not of_base:
        return list(measured)
    told = [_scaled(m, *factors[m.metric], about | of_base) if m.metric in factors else m for m in measured]
    cautions = _cautions("its guesses", own)
    cautions += [] if own is beside else _cautions("guesses of the reference", beside)
    return [replace(m, protocol={**m.protocol, "cautions": [*m.protocol["cautions"], *cautions]}) for m in told]


def _factor(gain: Gain | Untimed | None) -> tuple[float, float]:
    """A gain and the standard error of its logarithm; exactly 1 where there are no guesses, or none could be timed."""
    if not isinstance(gain, Gain):
        return 1.0, 0.0
    return gain.speedup.value, math.log(gain.speedup.high / gain.speedup.value) / _NORMAL


def _scaled(m: Measurement, factor: float, deviation: float, about: dict[str, Any]) -> Measurement:
    """A measurement times a factor whose logarithm has an error, which measuring the same prompts again keeps."""
    interval = Interval(math.log(m.value), math.log(m.low) if m.low > 0 else -math.inf, math.log(m.high))
    wider = widened(interval, deviation).exp()
    value, low, high = (end * factor for end in (wider.value, wider.low, wider.high))
    shared = math.hypot(float(m.protocol.get("neighbours", 0.0)), deviation)
    protocol = {**m.protocol, **about, "neighbours": round(shared, 6)}
    return replace(m, value=value, low=low, high=high, protocol=protocol)


def _stated(what: str, gain: Gain | Untimed | None) -> dict[str, Any]:
    """A gain in a protocol, or why it is missing."""
    if gain is None:
        return {}
    if isinstance(gain, Gain):
        return {what: _about(gain)}
    size, most = gain.guessing.ngram_size, gain.guessing.max_draft_tokens
    counts = {"timed_answers": gain.long, "prompts": gain.prompts}
    return {f"untimed_{what}": {"ngram_size": size, "max_draft_tokens": most, **counts}}


def _cautions(whose: str, gain: Gain | Untimed | None) -> list[str]:
    """A sentence on a gain that is left out of the times."""
    if not isinstance(gain, Untimed):
        return []
    return [
        f"What {whose} gain is left out of the times: {gain.long} of {gain.prompts} prompts have an answer of at least "
        f"{MIN_TOKENS} tokens, and {LEAST_TIMED} are needed. Give more prompts, or such as ask for longer answers."
    ]


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
        "answered": gain.answered,
        "timed": "whole greedy answers of the candidate, with and without guesses in turns, the faster of each two",
        "interval": "Student's over the logarithms by prompt: that of prompts such as these",
    }
