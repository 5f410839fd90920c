"""LanguageEstimator: needs of a study of a language model, from the model's config.

What is counted per weight and per byte below was read off the demo model on two cores where it could be, and is a guess
elsewhere; no whole study was held against it yet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from olivine.evaluators.latency.decoder_rounds import DECODE_SHARE, MIN_COUNTED, MIN_WARMUP_ROUNDS
from olivine.evaluators.latency.rounds import MIN_ROUNDS
from olivine.evaluators.providers.interpreters import loop_of
from olivine.evaluators.scenario.answers import ROUNDS
from olivine.evaluators.scenario.prompts import LEAST_ANSWERS, MOST_ANSWERS, count_prompts
from olivine.evaluators.scenario.scenario import Scenario
from olivine.passes.base import Scalar
from olivine.passes.export.export import float_type
from olivine.passes.learn.gradients import MOST_WINDOWS
from olivine.passes.sources.model_shape import WIDTHS, Weights, cached_numbers, count_weights
from olivine.passes.sources.source import Source
from olivine.search.builds.calibration_text import may_calibrate, own_windows
from olivine.search.builds.study_cache import language_bytes, limit_bytes
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.planning.estimate.estimator import BASE, BESIDE, BUILDING, OTHER, Durations
from olivine.search.planning.machine_speed import MachineRates
from olivine.search.report.formatting import duration_text, value_text
from olivine.search.workloads.language import base_choice

_BITS = {"int8": 8, "int4": 4}

#: Prefill's share of the rate of one large product, and that of a GPU, which is not probed.
PREFILL_SHARE, GPU_FLOPS = 0.8, 10e12
#: Memory without any model: the study, the process that builds, a build, a process that runs a model.
STUDY_BYTES, RESIDENT_BYTES, BUILD_BYTES, PROCESS_BYTES = 160e6, 170e6, 250e6, 70e6
#: Copies of the largest weight in float32 that exporting and quantizing it hold.
COPIES = 2.2
#: Seconds a weight of quantizing and writing, on a machine of this rate.
REFERENCE_FLOPS = 150e9
BUILD_S = {"rtn": 12e-9, "k_quant": 40e-9, "gptq": 15e-9}
#: Seconds a weight of learning GPTQ's codes in a format, once a format.
LEARN_S = 60e-9
#: Work of the pass that measures what layers read, and of the backward pass, in forward passes.
HESSIAN_PASSES, BACKWARD_PASSES = 2.0, 4.0
#: Rate at which a model writes text of its own, 64 rows side by side, over that of reading.
WRITING_SHARE = 0.25
#: Seconds of starting a model's process and its first prompt, and of telling a trial.
START_S, TELL_S = 0.5, 0.2
TOP_K_BYTES = 512 * 8


@dataclass(frozen=True)
class LanguageEstimator:
    """Needs of a study of a language model.

    Attributes:
        config: the study.
        source: its model.
        choices: typical candidates.
    """

    config: LanguageStudyConfig
    source: Source
    choices: Sequence[Mapping[str, Scalar]]

    @cached_property
    def weights(self) -> Weights:
        """Weights of the model."""
        return count_weights(self.source)

    @cached_property
    def base(self) -> Mapping[str, Scalar]:
        """The choice of the float base."""
        return base_choice(self.config)

    @cached_property
    def float_bytes(self) -> float:
        """Size of the float base."""
        return self.weights.total * self._float_width

    @cached_property
    def candidate_bytes(self) -> Sequence[float]:
        """Sizes of the typical candidates."""
        return [artifact_bytes(self.weights, choice, self._float_width) for choice in self.choices]

    @property
    def _float_width(self) -> int:
        return WIDTHS[float_type(str(self.base["provider"]), "int4")]

    @property
    def _deployed(self) -> Scenario | None:
        """The scenario that every folder is run through in a fresh process; None where none is."""
        return self.config.use() if loop_of(self.config.asked_providers()) == "genai" else None

    def memory_parts(self) -> dict[str, float]:
        """The base, a candidate and a build beside them; a pruned base is loaded a second time, whole.

        In a scenario a process of its own runs the candidate, or the base before there is one, once more.
        """
        weights, largest = self.weights, max(self.candidate_bytes)
        building = RESIDENT_BYTES + BUILD_BYTES + COPIES * 4 * weights.embedding
        learning = 0.0
        if may_calibrate(self.config):  # codes of all layers, one byte a weight, or the activations of a backward pass
            tokens = self.config.calibration.window_tokens
            learning = max(weights.total, 1.5e3 * weights.total**0.5 * tokens**0.5)
        loads = 1 + bool(self.base.get("prune_head"))
        cache = max(map(self.cache_bytes, self.choices))
        base = self.float_bytes + PROCESS_BYTES + self.cache_bytes(self.base)
        beside = loads * (largest + PROCESS_BYTES) + cache
        if self._deployed is not None:
            beside = max(base, beside + largest + PROCESS_BYTES + cache)
        logits = 2 * 4 * self.config.evaluation.window_tokens * weights.vocabulary
        return {BASE: base, BESIDE: beside, BUILDING: building + learning, OTHER: STUDY_BYTES + logits}

    def cache_bytes(self, choice: Mapping[str, Scalar]) -> float:
        """Keys and values of the longest text that a candidate of this choice runs: a window, a prompt, a scenario."""
        evaluation, use = self.config.evaluation, self.config.use()
        timed = evaluation.latency.prompt_tokens + evaluation.latency.new_tokens
        longest = max(evaluation.window_tokens, timed if use is None else use.context)
        bits = _BITS.get(str(choice.get("kv_cache")), 8 * self._float_width)
        return longest * cached_numbers(self.source) * bits / 8

    def disk_bytes(self, trials: int) -> float:
        """Checkpoint, float graphs, learned codes and candidates in the cache; predictions of the base; the export."""
        evaluation, sizes = self.config.evaluation, self.candidate_bytes
        needed = self.source.weight_bytes + self._float_graphs * self.float_bytes
        learned = _expected(len({_learned(c) for c in self.choices} - {None}), trials) * self.weights.total
        cached = needed + learned + trials * sum(sizes) / len(sizes)
        predictions = 2 * evaluation.windows * evaluation.window_tokens * TOP_K_BYTES
        limit = max(limit_bytes(self.config.cache, language_bytes(self.source)), needed)
        return min(cached, limit) + predictions + max(sizes)

    @property
    def _float_graphs(self) -> int:
        return len({_float_graph(choice) for choice in (self.base, *self.choices)})

    def durations(self, trials: int, rates: MachineRates) -> Durations:
        """Seconds of the parts; a build runs beside scoring, and both slow down."""
        config, weights, latency = self.config, self.weights, self.config.evaluation.latency
        rate = PREFILL_SHARE * rates.flops if self.base["provider"] == "cpu" else GPU_FLOPS
        rate /= 2 * (weights.total - weights.embedding)
        mean, slower = sum(self.candidate_bytes) / len(self.candidate_bytes), REFERENCE_FLOPS / rates.flops
        quality = config.evaluation.windows * config.evaluation.window_tokens / rate
        prefills = 2 * latency.prompt_tokens / rate
        visit = (MIN_COUNTED + 1) * (self.float_bytes + mean) / (2 * rates.read_bytes_per_s)
        rounds = (MIN_ROUNDS + MIN_WARMUP_ROUNDS) * (prefills + max(visit, DECODE_SHARE * prefills))
        measured = START_S + mean / rates.read_bytes_per_s + quality + max(latency.max_seconds, rounds) + TELL_S
        deployed, answers = self._deployed_s(mean, rate, rates), self._answers_s(mean, rate, rates)
        builds = [slower * weights.total * BUILD_S.get(str(c.get("algorithm")), BUILD_S["rtn"]) for c in self.choices]
        build = sum(builds) / len(builds) + mean / rates.written_bytes_per_s
        ahead = min(build, quality) / 2
        export = 8.0 * slower + 2 * self.float_bytes / rates.written_bytes_per_s
        kinds = 1 + len(config.evaluation.other_texts or {})
        confirming = START_S + kinds * quality + max(config.confirm.max_seconds or latency.max_seconds, rounds)
        return Durations(
            base=self._float_graphs * export + measured + quality + self._deployed_s(self.float_bytes, rate, rates),
            learning=self._learning(trials, rate, slower),
            trial=build - ahead + measured + deployed + answers,
            member=confirming + deployed + answers,
        )

    def _deployed_s(self, size: float, rate: float, rates: MachineRates) -> float:
        """Seconds of a run through the scenario, of a folder of so many bytes that reads so many tokens a second."""
        if (use := self._deployed) is None:
            return 0.0
        answers = use.turns * use.new_tokens
        return START_S + (use.tokens - answers) / rate + (1 + answers) * size / rates.read_bytes_per_s

    def _answers_s(self, size: float, rate: float, rates: MachineRates) -> float:
        """Seconds of whole answers with guesses and without, of a candidate as they are on average; as _deployed_s."""
        use = self.config.use()
        guessing = sum(bool(choice.get("ngram_size")) for choice in self.choices) / len(self.choices)
        if use is None or not guessing:
            return 0.0
        prompts = count_prompts(use)
        timed = min(MOST_ANSWERS, prompts if prompts < 2 * LEAST_ANSWERS else math.ceil(prompts / 2))
        answer = use.prompt_tokens / rate + use.new_tokens * size / rates.read_bytes_per_s
        return guessing * 2 * ROUNDS * timed * answer

    def _learning(self, trials: int, rate: float, slower: float) -> float:
        """Seconds of all that is learned from text, at so many tokens of a forward pass a second."""
        text, formats = self.config.calibration, len({_learned(choice) for choice in self.choices} - {None})
        given = text.windows * (1 + len(text.texts))
        own = own_windows(given, text.own or 0.0)
        seconds = slower * self.weights.total * LEARN_S * _expected(formats, trials)
        if may_calibrate(self.config):
            seconds += HESSIAN_PASSES * (given + own) * text.window_tokens / rate
            seconds += own * text.window_tokens / (WRITING_SHARE * rate)
        if any(choice["precision"] == "mixed" for choice in self.choices):
            seconds += BACKWARD_PASSES * min(MOST_WINDOWS, given + own) * text.window_tokens / rate
        return seconds

    def assumptions(self, rates: MachineRates) -> tuple[str, ...]:
        """Assumptions that the estimates rest on."""
        seconds = duration_text(self.config.evaluation.latency.max_seconds)
        again = "" if self._deployed is None else ", one of them once more as it is deployed"
        limit = value_text("model_bytes", limit_bytes(self.config.cache, language_bytes(self.source)))
        return (
            "sizes: weights of the checkpoint at the width of each precision, with one float scale a block; the "
            "embedding and the head by their own axes",
            f"memory: the float base and one candidate loaded{again}, and a build beside them; pages of mapped files, "
            "which the system drops when it needs the room, not counted",
            f"disk: checkpoint, float graphs, what was learned and every candidate in the cache, of at most {limit}, "
            "nothing of it built yet; the export on top",
            f"time: {rates.text()}, as measured just now; no candidate stopped early; at least {MIN_ROUNDS} rounds or "
            f"{seconds} of timing each; downloads not counted",
        )


def artifact_bytes(weights: Weights, choice: Mapping[str, Scalar], float_width: int) -> float:
    """Size of the candidate that a canonical choice builds.

    Args:
        weights: of the model.
        choice: canonical axis values.
        float_width: bytes of a float below integer weights.
    """
    precision = str(choice["precision"])
    if precision in WIDTHS:
        return weights.total * WIDTHS[precision]
    bits = _BITS.get(precision, 8)
    head = str(choice.get("lm_head", "same"))
    head_bits = bits if head == "same" else _BITS.get(head, 8 * float_width)
    embedding = str(choice.get("embedding", "float"))
    embedding_bits = _BITS.get(embedding, 8 * float_width)
    block, scale = int(choice.get("block_size", 32)), 8 * float_width

    def stored(count: float, width: int) -> float:
        return count * (width if width >= scale else width + scale / block) / 8

    body = weights.total - 2 * weights.embedding
    own = 0.0 if embedding == "shared" else stored(weights.embedding, embedding_bits)
    return stored(body, bits) + stored(weights.embedding, head_bits) + own


def _learned(choice: Mapping[str, Scalar]) -> tuple[Scalar | None, ...] | None:
    """Key of the codes that a choice learns from text; None where it learns none."""
    if choice.get("algorithm") != "gptq":
        return None
    bits = 8 if choice["precision"] == "int8" else 4
    return (bits, choice.get("block_size"), choice.get("symmetric"), *_float_graph(choice))


def _float_graph(choice: Mapping[str, Scalar]) -> tuple[Scalar | None, ...]:
    """Key of the float graph that a choice is built from."""
    floats = float_type(str(choice["provider"]), str(choice["precision"]))
    return floats, choice.get("fusion_level"), choice.get("rotate")


def _expected(kinds: int, draws: int) -> float:
    """Kinds that are expected among so many draws."""
    return kinds * (1 - (1 - 1 / kinds) ** draws) if kinds else 0.0
