"""What a study would do and take: ``olivine plan``. Builds nothing; every estimate says what it assumes."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from olivine.evaluators.latency import MIN_ROUNDS, MIN_WARMUP_ROUNDS
from olivine.evaluators.turns import DECODE_SHARE, MIN_COUNTED
from olivine.passes.base import Scalar
from olivine.passes.cache import cache_root
from olivine.passes.errors import SourceError
from olivine.passes.export import float_type
from olivine.passes.session_options import available_cores
from olivine.passes.source import Source, resolve
from olivine.search.config import StudyConfig
from olivine.search.doctor import free_disk_bytes
from olivine.search.formatting import duration_text, value_text
from olivine.search.proposing import sampler_name
from olivine.search.provider_check import absent_providers
from olivine.search.sampling import ENUMERABLE, count_candidates
from olivine.search.space import Domain, Space
from olivine.search.study import base_choice

_WIDTHS = {"float64": 8, "float32": 4, "fp32": 4, "float16": 2, "bfloat16": 2, "fp16": 2, "bf16": 2}
#: Choices drawn to see what candidates are like.
SAMPLE = 2000
_BITS = {"int8": 8, "int4": 4}
#: The demo's weights after rotation, and its embedding: what is known of it before it is fetched.
_DEMO_PARAMETERS, _DEMO_VOCABULARY, _DEMO_HIDDEN = 163_000_000, 49152, 576
#: Share of the weights in the embedding, where no config.json tells.
_EMBEDDING_SHARE = 0.1

# Measured on 135 million parameters and two cores at 2.5 GHz with AVX-512; the plan's rows name them.
_FLOPS_PER_CORE, _BYTES_PER_S, _GPU_FLOPS = 50e9, 20e9, 10e12
_LIBRARIES_BYTES, _TORCH_BYTES, _BUILD_BYTES = 70e6, 400e6, 600e6
_TOP_K_BYTES = 512 * 8


@dataclass(frozen=True)
class PlannedAxis:
    """One axis of the space: its values in words, and when it exists (empty: always)."""

    name: str
    values: str
    searched: bool
    when: str
    doc: str


@dataclass(frozen=True)
class Weights:
    """How many weights a model has, and where: ``total`` counts a tied head by itself, as the graph does."""

    total: float
    embedding: float
    vocabulary: int


@dataclass(frozen=True)
class Estimate:
    """What the study takes, roughly; bytes and seconds."""

    float_bytes: float
    smallest_bytes: float
    largest_bytes: float
    ram_bytes: float
    disk_bytes: float
    seconds: float


@dataclass(frozen=True)
class Plan:
    """A study before it runs.

    Attributes:
        name: of the study.
        model: the ``model:`` of the config, with kind and architecture where they are known.
        axes: in the order in which they are chosen.
        candidates: distinct recipes; None where there are more than can be counted.
        endless: whether a continuous range is why.
        trials: candidates that the study may measure.
        timeout_s: seconds that the search may take, or None.
        sampler: the one that proposes them; what ``auto`` stands for here.
        estimate: memory, disk and time; None where the model could not be looked at.
        unknown: what could not be estimated, and why.
        absent: providers that do not run on this machine, and what would bring them.
        assumptions: what the estimate rests on.
        free_ram_bytes: memory that is free now.
        free_disk_bytes: disk that is free at the cache.
    """

    name: str
    model: str
    axes: tuple[PlannedAxis, ...]
    candidates: int | None
    endless: bool
    trials: int
    timeout_s: float | None
    sampler: str
    estimate: Estimate | None
    unknown: tuple[str, ...]
    absent: tuple[str, ...]
    assumptions: tuple[str, ...]
    free_ram_bytes: int
    free_disk_bytes: int

    @property
    def fits(self) -> bool | None:
        """Whether memory and disk are enough; None where that is not known."""
        if self.estimate is None:
            return None
        return self.estimate.ram_bytes <= self.free_ram_bytes and self.estimate.disk_bytes <= self.free_disk_bytes


def make_plan(config: StudyConfig) -> Plan:
    """Count, look at the model's config and estimate.

    Raises:
        SourceError: for a model that does not exist or can't be exported. A hub that does not answer is no
            error: the plan then says what it could not estimate.
    """
    space = config.search_space()
    candidates = count_candidates(space)
    trials = config.stop.trials if candidates is None else min(candidates, config.stop.trials)
    choices = _choices(space)
    model, estimate = config.model, None
    unknown: tuple[str, ...] = ()
    try:
        source = resolve(config.model, revision=config.revision, trust_remote_code=config.trust_remote_code)
    except SourceError as error:
        if not _hub_is_away(error):
            raise
        unknown = (f"memory, disk and time: {error}",)
    else:
        model = f"{config.model} ({source.kind}, {source.architecture}, weights in {source.dtype})"
        estimate = _estimate(config, source, choices, trials)
    cache = Path(config.cache.folder) if config.cache.folder else cache_root()
    return Plan(
        name=config.name,
        model=model,
        axes=tuple(_planned(domain, space.domains, choices) for domain in space.domains),
        candidates=candidates,
        endless=any(not domain.values for domain in space.domains),
        trials=trials,
        timeout_s=config.stop.timeout,
        sampler=sampler_name(config),
        estimate=estimate,
        unknown=unknown,
        absent=absent_providers(config),
        assumptions=() if estimate is None else _assumptions(config),
        free_ram_bytes=psutil.virtual_memory().available,
        free_disk_bytes=free_disk_bytes(cache),
    )


def _hub_is_away(error: SourceError) -> bool:
    """Whether the hub, and not the config, is why a model can't be looked at."""
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        HFValidationError,
        HTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    cause = error.__cause__
    if isinstance(cause, (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError)):
        return False
    return isinstance(cause, (HTTPError, OSError))


class _Lots:
    """Draws every value with the same chance, the same way every time."""

    def __init__(self) -> None:
        self._random = random.Random(0)

    def suggest_categorical(self, name: str, choices: tuple[Scalar, ...]) -> Any:
        """One of the choices."""
        return self._random.choice(choices)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int:
        """A whole number."""
        return self._random.randrange(low, high + 1, step)

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None) -> float:
        """A number."""
        return self._random.uniform(low, high)


def _choices(space: Space) -> list[dict[str, Scalar]]:
    """A fair sample of the space, of ranges only the ends: enough for sizes and what excludes what."""
    lots = _Lots()
    thin = tuple(Domain(d.axis, (d.low, d.high)) if d.step or not d.values else d for d in space.domains)
    return [Space(thin).suggest(lots) for _ in range(SAMPLE)]


def _planned(domain: Domain, domains: Sequence[Domain], choices: Sequence[Mapping[str, Scalar]]) -> PlannedAxis:
    name = domain.axis.name
    present = [choice for choice in choices if name in choice]
    found = []
    for parent in domains[: domains.index(domain)] if len(present) < len(choices) else ():
        word = parent.axis.name
        here = {choice[word] for choice in present if word in choice}
        if here != {choice[word] for choice in choices if word in choice}:
            found.append(f"{word} is {' or '.join(str(value) for value in parent.values if value in here)}")
    when = " and ".join(found) or ("" if len(present) == len(choices) else "some combinations allow it")
    values = str(replace(domain, values=()) if domain.step else domain)
    return PlannedAxis(name, values, domain.searched, when, domain.axis.doc)


def _estimate(config: StudyConfig, source: Source, choices: Sequence[Mapping[str, Scalar]], trials: int) -> Estimate:
    weights, base = count_weights(source), base_choice(config)
    below = _WIDTHS[float_type(str(base["provider"]), "int4")]
    sizes = [artifact_bytes(weights, choice, below) for choice in choices]
    mean, largest, float_bytes = sum(sizes) / len(sizes), max(sizes), weights.total * below
    evaluation, latency = config.evaluation, config.evaluation.latency
    logits = 2 * 4 * evaluation.window_tokens * weights.vocabulary
    resident = float_bytes + _LIBRARIES_BYTES
    twin = largest + _LIBRARIES_BYTES if base.get("prune_head") else 0.0
    ram = max(
        2 * float_bytes + _BUILD_BYTES,
        resident + float_bytes + _BUILD_BYTES,
        resident + largest + _LIBRARIES_BYTES + _TORCH_BYTES + logits + twin,
    )
    graphs = len({_float_graph(choice) for choice in [base, *choices]})
    kept = source.weight_bytes + graphs * float_bytes + trials * mean
    predictions = 2 * evaluation.windows * evaluation.window_tokens * _TOP_K_BYTES
    disk = min(kept, max(config.cache.max_bytes, source.weight_bytes + 2 * float_bytes)) + predictions + largest
    flops = _FLOPS_PER_CORE * (int(base.get("threads", 0)) or available_cores())
    rate = (flops if base["provider"] == "cpu" else _GPU_FLOPS) / (2 * (weights.total - weights.embedding))
    quality = evaluation.windows * evaluation.window_tokens / rate
    prefills, visit = 2 * latency.prompt_tokens / rate, (MIN_COUNTED + 1) * (float_bytes + mean) / _BYTES_PER_S
    rounds = (MIN_ROUNDS + MIN_WARMUP_ROUNDS) * (prefills + max(visit, DECODE_SHARE * prefills))
    measured = 1.0 + mean / 500e6 + quality + max(latency.max_seconds, rounds)
    search = trials * (2.0 + float_bytes / 150e6 + measured)
    if config.stop.timeout is not None:
        search = min(search, config.stop.timeout)
    members = min(config.confirm.members, trials) + 1
    seconds = graphs * (8.0 + float_bytes / 100e6) + measured + search + members * measured
    return Estimate(float_bytes, min(sizes), largest, ram, disk, seconds)


def _float_graph(choice: Mapping[str, Scalar]) -> tuple[Scalar | None, ...]:
    """What tells the float graph that a choice is built from apart from others."""
    floats = float_type(str(choice["provider"]), str(choice["precision"]))
    return floats, choice.get("fusion_level"), choice.get("rotate")


def count_weights(source: Source) -> Weights:
    """Weights of the float graph, from the size of the checkpoint and its config.json."""
    if source.kind == "demo":
        return Weights(_DEMO_PARAMETERS, _DEMO_VOCABULARY * _DEMO_HIDDEN, _DEMO_VOCABULARY)
    total = source.weight_bytes / _WIDTHS.get(source.dtype, 2)
    config: Mapping[str, Any] = source.config or {}
    text: Mapping[str, Any] = config.get("text_config") or config
    if "vocab_size" not in text or "hidden_size" not in text:
        return Weights(total, _EMBEDDING_SHARE * total, 0)
    vocabulary, hidden = int(text["vocab_size"]), int(text["hidden_size"])
    tied = bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", False)))
    return Weights(total + tied * vocabulary * hidden, vocabulary * hidden, vocabulary)


def artifact_bytes(weights: Weights, choice: Mapping[str, Scalar], float_width: int) -> float:
    """Size of the candidate that a canonical choice builds.

    Args:
        weights: of the model.
        choice: canonical axis values.
        float_width: bytes of a float below integer weights.
    """
    precision = str(choice["precision"])
    if precision in _WIDTHS:
        return weights.total * _WIDTHS[precision]
    bits = _BITS.get(precision, 8)
    head = str(choice.get("lm_head", "same"))
    head_bits = bits if head == "same" else _BITS.get(head, 8 * float_width)
    embedding_bits = _BITS.get(str(choice.get("embedding", "float")), 8 * float_width)
    block, scale = int(choice.get("block_size", 32)), 8 * float_width

    def stored(count: float, width: int) -> float:
        return count * (width if width >= scale else width + scale / block) / 8

    body = weights.total - 2 * weights.embedding
    return stored(body, bits) + stored(weights.embedding, head_bits) + stored(weights.embedding, embedding_bits)


def _assumptions(config: StudyConfig) -> tuple[str, ...]:
    latency = config.evaluation.latency
    return (
        "sizes: weights of the checkpoint at the width of each precision, with one float scale a block; the "
        "embedding and the head by their own axes",
        "memory: the float base stays loaded beside one candidate and the process that prepares the next "
        "build; exporting holds the float graph twice",
        f"disk: checkpoint, float graphs and every candidate in the cache, of at most "
        f"{_size(config.cache.max_bytes)}, nothing of it built yet; the export on top",
        f"time: {_FLOPS_PER_CORE / 1e9:.0f} GFLOP/s a core in prefill ({_GPU_FLOPS / 1e12:.0f} TFLOP/s on "
        f"other providers) and {_BYTES_PER_S / 1e9:.0f} GB/s in decode; no candidate stopped early; at least "
        f"{MIN_ROUNDS} rounds or {duration_text(latency.max_seconds)} of timing each; downloads not counted",
    )


def plan_table(plan: Plan) -> RenderableType:
    """The axes, and below them what the study takes and whether that fits."""
    axes = Table(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    axes.title = Text(f"{plan.name}: {plan.model}", style="not italic bold")
    for column in ("axis", "values", "exists when", "what it is"):
        axes.add_column(column, no_wrap=column == "axis", overflow="fold")
    for axis in plan.axes:
        cells = (axis.name, axis.values, axis.when or "always", axis.doc)
        axes.add_row(*map(Text, cells), style="" if axis.searched else "dim")
    facts = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False)
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    uncounted = "endless: a range has no step" if plan.endless else f"more than {ENUMERABLE}"
    facts.add_row("distinct candidates", uncounted if plan.candidates is None else str(plan.candidates))
    timeout = "" if plan.timeout_s is None else f", or {duration_text(plan.timeout_s)} of search"
    facts.add_row("budget", f"{plan.trials} candidates{timeout}")
    facts.add_row("sampler", plan.sampler)
    if (estimate := plan.estimate) is not None:
        smallest, largest = map(_size, (estimate.smallest_bytes, estimate.largest_bytes))
        facts.add_row("size", f"float base {_size(estimate.float_bytes)}, candidates {smallest} to {largest}")
        facts.add_row("memory", f"about {_size(estimate.ram_bytes)} of {_size(plan.free_ram_bytes)} free")
        facts.add_row("disk", f"about {_size(estimate.disk_bytes)} of {_size(plan.free_disk_bytes)} free")
        facts.add_row("time", f"about {duration_text(estimate.seconds)}")
        facts.add_row("fits", _verdict(estimate, plan))
    for reason in plan.unknown:
        facts.add_row("not estimated", Text(reason, style="yellow"))
    for reason in plan.absent:
        facts.add_row("not here", Text(reason, style="yellow"))
    for assumption in plan.assumptions:
        facts.add_row("assuming", Text(assumption, style="dim"))
    return Group(axes, facts)


def _size(count: float) -> str:
    return value_text("model_bytes", count)


def _verdict(estimate: Estimate, plan: Plan) -> Text:
    lacking = []
    if estimate.ram_bytes > plan.free_ram_bytes:
        lacking.append("not enough memory: take a smaller model or a larger machine")
    if estimate.disk_bytes > plan.free_disk_bytes:
        lacking.append("not enough disk: free some, or set OLIVINE_CACHE to a folder on a larger one")
    return Text("; ".join(lacking) or "yes", style="red" if lacking else "green")
