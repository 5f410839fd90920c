"""Timing of candidates on whole answers to a scenario's prompts, which candidates that guess tokens need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from olivine.evaluators.latency.decoder import PairedDecoderLatency
from olivine.evaluators.scenario.answers import AnswerLatency
from olivine.evaluators.scenario.prompts import LEAST_ANSWERS, Prompt, count_prompts
from olivine.passes.errors import UsageError
from olivine.passes.transforms.speculate import Speculate
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.workloads.stage import Evaluator, Stage


def searches_guesses(config: LanguageStudyConfig) -> bool:
    """True where a study searches speculation."""
    return any(axis.name in config.space for axis in Speculate.axes)


def check_count(config: LanguageStudyConfig) -> None:
    """Refuse to search speculation on too few prompts.

    Raises:
        UsageError: with their number, or when their file can't be read.
    """
    use = config.use()
    if use is not None and searches_guesses(config) and (count := count_prompts(use)) < LEAST_ANSWERS:
        raise UsageError(
            f"scenario.prompts: {count} prompts; guesses are timed on at least {LEAST_ANSWERS}, and from "
            f"{2 * LEAST_ANSWERS} on confirmation has prompts of its own. Add some"
        )


def timed_stage(latency: PairedDecoderLatency, prompts: Sequence[Prompt]) -> Stage:
    """The stage that times candidates: on whole answers too, where there are real prompts and they guess tokens."""

    def seeded(steps: PairedDecoderLatency) -> Evaluator:
        return AnswerLatency(steps, tuple(prompt.ids for prompt in prompts)) if prompts else steps

    def again(repetition: int) -> Evaluator:
        return seeded(replace(latency, seed=latency.seed + 1000 * repetition))

    return Stage("latency", "latency", seeded(latency), timed=True, again=again)
