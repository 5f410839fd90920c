"""What a study takes, before it runs: memory, disk and time, from the model's config and the machine's rates.

The rates of this machine are measured (``machine_rates.py``). What is counted per weight and per byte below was read
off the demo model on two cores where it could be, and is a guess elsewhere; no whole study was held against it yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from olivine.evaluators.latency.decoder import MIN_WARMUP_ROUNDS
from olivine.evaluators.latency.interleave import DECODE_SHARE, MIN_COUNTED, MIN_ROUNDS
from olivine.passes.base import Scalar
from olivine.passes.export.export import float_type
from olivine.passes.learn.gradients import MOST_WINDOWS
from olivine.passes.sources.model_shape import WIDTHS, Weights, count_weights
from olivine.passes.sources.source import Source
from olivine.search.builds.cache import limit_bytes
from olivine.search.builds.calibration_text import may_calibrate
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.planning.machine_speed import MachineRates
from olivine.search.study.baseline import base_choice

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
#: Seconds of starting a model's process and its first prompt, and of telling a trial.
START_S, TELL_S = 0.5, 0.2
TOP_K_BYTES = 512 * 8


@dataclass(frozen=True)
class Estimate:
    """What the study takes, roughly; bytes and seconds."""

    float_bytes: float
    smallest_bytes: float
    largest_bytes: float
    ram_bytes: float
    disk_bytes: float
    seconds: float


def estimate(
    config: LanguageStudyConfig,
    source: Source,
    choices: Sequence[Mapping[str, Scalar]],
    trials: int,
    rates: MachineRates,
) -> Estimate:
    """What a study takes.

    Args:
        config: of the study.
        source: its model.
        choices: what candidates are like.
        trials: how many it may measure.
        rates: of this machine.
    """
    sizes = _Sizes.of(config, source, choices)
    return Estimate(
        sizes.float_bytes,
        min(sizes.candidates),
        max(sizes.candidates),
        memory_bytes(config, source, choices),
        disk_bytes(config, source, choices, trials),
        _seconds(config, sizes, choices, trials, rates),
    )


@dataclass(frozen=True)
class _Sizes:
    """Weights of a model, and bytes of its float graph and of candidates."""

    weights: Weights
    float_bytes: float
    candidates: list[float]

    @classmethod
    def of(cls, config: LanguageStudyConfig, source: Source, choices: Sequence[Mapping[str, Scalar]]) -> _Sizes:
        weights, base = count_weights(source), base_choice(config)
        width = WIDTHS[float_type(str(base["provider"]), "int4")]
        return cls(weights, weights.total * width, [artifact_bytes(weights, choice, width) for choice in choices])


def memory_bytes(config: LanguageStudyConfig, source: Source, choices: Sequence[Mapping[str, Scalar]]) -> float:
    """The most that all processes hold together, without pages of mapped files, which the kernel drops at need."""
    sizes, twin = _Sizes.of(config, source, choices), bool(base_choice(config).get("prune_head"))
    weights, float_bytes, largest = sizes.weights, sizes.float_bytes, max(sizes.candidates)
    building = RESIDENT_BYTES + BUILD_BYTES + COPIES * 4 * weights.embedding
    if not may_calibrate(config):
        learning = 0.0
    else:  # codes of all layers, one byte a weight, or the activations of a backward pass
        learning = max(weights.total, 1.5e3 * weights.total**0.5 * config.calibration.window_tokens**0.5)
    base, candidate = float_bytes + PROCESS_BYTES, largest + PROCESS_BYTES
    logits = 2 * 4 * config.evaluation.window_tokens * weights.vocabulary
    return STUDY_BYTES + building + learning + base + candidate * (1 + twin) + logits


def disk_bytes(
    config: LanguageStudyConfig, source: Source, choices: Sequence[Mapping[str, Scalar]], trials: int
) -> float:
    """Cache, the base's predictions and the exported model."""
    sizes = _Sizes.of(config, source, choices)
    graphs = len({_float_graph(choice) for choice in [base_choice(config), *choices]})
    needed = source.weight_bytes + graphs * sizes.float_bytes
    learned = _expected(len({_learned(c) for c in choices} - {None}), trials) * sizes.weights.total
    kept = needed + learned + trials * sum(sizes.candidates) / len(sizes.candidates)
    predictions = 2 * config.evaluation.windows * config.evaluation.window_tokens * TOP_K_BYTES
    return min(kept, max(limit_bytes(config.cache, source), needed)) + predictions + max(sizes.candidates)


@dataclass(frozen=True)
class Durations:
    """Seconds of the parts of a study.

    Attributes:
        base: exporting all float graphs, and measuring the base.
        learning: what candidates learn from text, all together.
        trial: one candidate, on average.
        member: confirming one member of the front.
    """

    base: float
    learning: float
    trial: float
    member: float


def durations(
    config: LanguageStudyConfig,
    source: Source,
    choices: Sequence[Mapping[str, Scalar]],
    trials: int,
    rates: MachineRates,
) -> Durations:
    """How long the parts of a study take; arguments as of :func:`estimate`."""
    return _durations(config, _Sizes.of(config, source, choices), choices, trials, rates)


def _durations(
    config: LanguageStudyConfig,
    sizes: _Sizes,
    choices: Sequence[Mapping[str, Scalar]],
    trials: int,
    rates: MachineRates,
) -> Durations:
    weights, float_bytes = sizes.weights, sizes.float_bytes
    base, evaluation, latency = base_choice(config), config.evaluation, config.evaluation.latency
    on_cpu = base["provider"] == "cpu"
    rate = (PREFILL_SHARE * rates.flops if on_cpu else GPU_FLOPS) / (2 * (weights.total - weights.embedding))
    mean, slower = sum(sizes.candidates) / len(sizes.candidates), REFERENCE_FLOPS / rates.flops
    quality = evaluation.windows * evaluation.window_tokens / rate
    prefills = 2 * latency.prompt_tokens / rate
    visit = (MIN_COUNTED + 1) * (float_bytes + mean) / (2 * rates.read_bytes_per_s)
    rounds = (MIN_ROUNDS + MIN_WARMUP_ROUNDS) * (prefills + max(visit, DECODE_SHARE * prefills))
    measured = START_S + mean / rates.read_bytes_per_s + quality + max(latency.max_seconds, rounds) + TELL_S
    builds = [BUILD_S.get(str(choice.get("algorithm", "rtn")), 0.0) for choice in choices]
    build = slower * weights.total * sum(builds) / len(builds) + mean / rates.written_bytes_per_s
    ahead = min(build, quality) / 2  # it runs beside scoring, and both slow down
    learning = slower * weights.total * LEARN_S * _expected(len({_learned(c) for c in choices} - {None}), trials)
    if may_calibrate(config):
        text = config.calibration
        learning += HESSIAN_PASSES * text.windows * text.window_tokens / rate
    if any(choice["precision"] == "mixed" for choice in choices):
        windows = min(MOST_WINDOWS, config.calibration.windows)
        learning += BACKWARD_PASSES * windows * config.calibration.window_tokens / rate
    graphs = len({_float_graph(choice) for choice in [base, *choices]})
    export = 8.0 * slower + 2 * float_bytes / rates.written_bytes_per_s
    confirming = START_S + quality + max(config.confirm.max_seconds or latency.max_seconds, rounds)
    return Durations(graphs * export + measured + quality, learning, build - ahead + measured, confirming)


def _seconds(
    config: LanguageStudyConfig,
    sizes: _Sizes,
    choices: Sequence[Mapping[str, Scalar]],
    trials: int,
    rates: MachineRates,
) -> float:
    found = _durations(config, sizes, choices, trials, rates)
    search = found.learning + trials * found.trial
    if config.stop.timeout is not None:
        search = min(search, config.stop.timeout)
    members = min(config.confirm.members, trials) + 1
    whole = found.base + search + members * found.member
    return whole if config.stop.total is None else min(whole, config.stop.total)


def _learned(choice: Mapping[str, Scalar]) -> tuple[Scalar | None, ...] | None:
    """What tells the codes that a choice learns from text apart from others; None where it learns none."""
    if choice.get("algorithm") != "gptq":
        return None
    bits = 8 if choice["precision"] == "int8" else 4
    return (bits, choice.get("block_size"), choice.get("symmetric"), *_float_graph(choice))


def _expected(kinds: int, draws: int) -> float:
    """How many of so many kinds are expected among so many draws."""
    return kinds * (1 - (1 - 1 / kinds) ** draws) if kinds else 0.0


def _float_graph(choice: Mapping[str, Scalar]) -> tuple[Scalar | None, ...]:
    """What tells the float graph that a choice is built from apart from others."""
    floats = float_type(str(choice["provider"]), str(choice["precision"]))
    return floats, choice.get("fusion_level"), choice.get("rotate")


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
    embedding_bits = _BITS.get(str(choice.get("embedding", "float")), 8 * float_width)
    block, scale = int(choice.get("block_size", 32)), 8 * float_width

    def stored(count: float, width: int) -> float:
        return count * (width if width >= scale else width + scale / block) / 8

    body = weights.total - 2 * weights.embedding
    return stored(body, bits) + stored(weights.embedding, head_bits) + stored(weights.embedding, embedding_bits)
