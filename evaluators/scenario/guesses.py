"""Guesses from n-grams, timed on a model's own greedy answers to real prompts, with and without them.

Answers with and without guesses come from one process in a random order, so that both meet the same machine. What a
guess gains depends on the prompt: the interval is that of prompts such as these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.process.messages import TimedAnswer
from olivine.evaluators.providers.interpreters import comparable_options
from olivine.evaluators.scenario.prompts import read_prompts
from olivine.evaluators.scenario.scenario import Scenario
from olivine.evaluators.stats import Interval, student
from olivine.passes.errors import UsageError
from olivine.passes.sources.genai_folder import read_genai_config
from olivine.passes.transforms.prune_head import is_pruned
from olivine.passes.transforms.speculate import DRAFT_TOKENS, SECTION, USUAL_DRAFT_TOKENS

#: Answers to each prompt, of which the fastest counts.
ROUNDS = 3
#: Tokens that an answer needs, so that its time says something.
MIN_TOKENS = 8
#: Most tokens that a run of the model gives: the guessed ones and its own.
MAX_STEP = DRAFT_TOKENS[1] + 1.0


class Answering(Protocol):
    """A process that answers prompts."""

    def answer(self, tokens: Sequence[int], most: int, ngram_size: int = 0, max_draft_tokens: int = 4) -> TimedAnswer:
        """Answer a prompt greedily."""


@dataclass(frozen=True)
class Guessing:
    """Options of guesses.

    Attributes:
        ngram_size: tokens of an n-gram; 0 guesses nothing.
        max_draft_tokens: most tokens that are guessed at once.
    """

    ngram_size: int
    max_draft_tokens: int = USUAL_DRAFT_TOKENS

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Guessing:
        """The options of a parsed genai_config.json."""
        stated = config.get(SECTION, {})
        size = int(stated.get("ngram_size", 0))
        return cls(size, int(stated.get("max_draft_tokens", USUAL_DRAFT_TOKENS))) if size else NONE


NONE = Guessing(0)
TRIED = (Guessing(2), Guessing(3), Guessing(3, 8))


@dataclass(frozen=True)
class Gain:
    """The gain of guesses.

    Attributes:
        guessing: their options.
        speedup: time a token without them / with them; geometric mean over prompts and its interval.
        accepted: share of the answers' tokens that were guessed right.
        right: share of the guesses that were.
        same: prompts whose answer was the same without them.
        prompts: that had answers long enough to be timed.
        answered: prompts in all.
        tokens_per_step: tokens of an answer / runs of the model for it; mean over prompts and its interval.
        by_prompt: the speedup on each of them.
    """

    guessing: Guessing
    speedup: Interval
    accepted: float
    right: float
    same: int
    prompts: int
    tokens_per_step: Interval
    by_prompt: tuple[float, ...]
    answered: int


def time_guesses(folder: Path, file: Path, new_tokens: int) -> list[Gain]:
    """Time the answers of a model folder to the prompts of a file.

    Args:
        folder: ONNX Runtime GenAI folder for the CPU.
        file: of texts or chat messages, or the name of ready ones, as a scenario's ``prompts``.
        new_tokens: most tokens of an answer.

    Raises:
        UsageError: when guesses can't be checked in this model, or no prompt has an answer long enough to be timed.
        ModelProcessFailed: when the model does not load or run.
    """
    if new_tokens < MIN_TOKENS:
        raise UsageError(
            f"{new_tokens} new tokens; at least {MIN_TOKENS}, so that the time of an answer says something"
        )
    config = read_genai_config(folder)
    if is_pruned(folder):
        raise UsageError(
            f"{folder} computes the logits of the last position only, so no guess can be checked. Build it with "
            "--set prune_head=false"
        )
    options = comparable_options([folder])[folder]
    if options.get("loop", "genai") != "genai":
        raise UsageError(f"{folder} does not run by ONNX Runtime GenAI here, which makes the guesses")
    longest = int(config["model"]["context_length"])
    context = min(longest, int(config.get("search", {}).get("max_length", longest)))
    prompts = read_prompts(Scenario(context=context, new_tokens=new_tokens, prompts=str(file)), folder)
    with ModelProcess.open(folder, **options) as process:
        return measure(process, [prompt.ids for prompt in prompts], new_tokens, own=Guessing.of(config))


def measure(
    process: Answering, prompts: Sequence[Sequence[int]], new_tokens: int, seed: int = 0, own: Guessing = NONE
) -> list[Gain]:
    """Time the answers of a process to prompts, each several times with each of the options, its own among them.

    Raises:
        UsageError: when no answer is long enough to be timed.
    """
    process.answer(prompts[0], new_tokens)  # wakes threads and caches, and does not count

    def answer(prompt: Sequence[int], way: Guessing) -> TimedAnswer:
        return process.answer(prompt, new_tokens, way.ngram_size, way.max_draft_tokens)

    ways = TRIED if own in (NONE, *TRIED) else (*TRIED, own)
    if gains := time_ways(answer, prompts, ways, ROUNDS, seed):
        return gains
    raise UsageError(f"No answer has {MIN_TOKENS} tokens, so that nothing can be timed. Ask for longer ones")


def time_ways(
    answer: Callable[[Sequence[int], Guessing], TimedAnswer],
    prompts: Sequence[Sequence[int]],
    ways: Sequence[Guessing],
    rounds: int,
    seed: int = 0,
) -> list[Gain]:
    """Time answers to prompts in each of the ways to guess, and without guesses, in a random order.

    Args:
        answer: answers a prompt in one of them.
        prompts: token ids of each.
        ways: options of guesses.
        rounds: answers to each prompt in each way, of which the fastest counts.
        seed: of the order.

    Returns:
        The gain of each of the ways; none where no answer is long enough to be timed.
    """
    rng, every = np.random.default_rng(seed), (NONE, *ways)
    answers: dict[Guessing, list[list[TimedAnswer]]] = {way: [[] for _ in prompts] for way in every}
    for _ in range(rounds):
        for number, prompt in enumerate(prompts):
            for index in rng.permutation(len(every)):
                answers[every[index]][number].append(answer(prompt, every[index]))
    timed = [n for n in range(len(prompts)) if all(len(answers[way][n][0].ids) >= MIN_TOKENS for way in every)]
    if not timed:
        return []
    plain = [answers[NONE][number] for number in timed]
    return [_gain(way, plain, [answers[way][number] for number in timed], len(prompts)) for way in ways]


def _gain(
    way: Guessing, plain: Sequence[Sequence[TimedAnswer]], guessed: Sequence[Sequence[TimedAnswer]], answered: int
) -> Gain:
    gains = np.array([np.log(_token_ms(a) / _token_ms(b)) for a, b in zip(plain, guessed, strict=True)])
    once = [answers[0] for answers in guessed]  # greedy: each answer to a prompt is the same
    accepted, proposed = sum(answer.accepted for answer in once), sum(answer.proposed for answer in once)
    steps = [len(answer.ids) / max(1, len(answer.ids) - answer.accepted) for answer in once]
    return Gain(
        way,
        student(gains).exp(),
        accepted / sum(len(answer.ids) for answer in once),
        accepted / max(1, proposed),
        sum(a[0].ids == b.ids for a, b in zip(plain, once, strict=True)),
        len(once),
        student(np.array(steps)).clip(1.0, MAX_STEP),
        tuple(float(gain) for gain in np.exp(gains)),
        answered,
    )


def _token_ms(answers: Sequence[TimedAnswer]) -> float:
    """Least time a token, without the first one, which the prompt gave: other programs only ever add time."""
    return min(answer.ms / (len(answer.ids) - 1) for answer in answers)
