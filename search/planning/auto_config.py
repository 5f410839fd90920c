"""What ``olivine optimize`` searches and how it measures: chosen from the model, the machine and the budget.

The choice is a YAML like any other, so that what ran can be read, changed and run again. How long things take is
estimated (``estimate.py``); the study itself then ends by what its trials really took (``time_left.py``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from olivine.evaluators.data.text_source import TextSource, splits
from olivine.passes.cpu import cpu_name
from olivine.passes.errors import UsageError
from olivine.passes.sources.source import Source
from olivine.passes.transforms.session_options import available_cores
from olivine.search.config.language import LanguageStudyConfig, StopConfig, parse_config
from olivine.search.planning.estimate import Durations, durations, memory_bytes
from olivine.search.planning.machine_speed import MachineRates
from olivine.search.planning.optimize_request import OptimizeRequest
from olivine.search.planning.plan import ERROR
from olivine.search.planning.presets import Preset, SearchScope, preset
from olivine.search.report.formatting import duration_text, title, value_text
from olivine.search.samplers.random_choices import sample_choices
from olivine.search.study.stopping import EXPORT_S

#: How far the search looks beyond the allowed loss: what it sees there teaches the sampler where the edge is.
MARGIN = 0.25
#: What a study scores on where nothing else is said.
WIKITEXT = {"dataset": "Salesforce/wikitext", "config": "wikitext-2-raw-v1", "split": "test"}
#: Choices drawn to see what candidates are like.
SAMPLE = 200
#: Characters of a token: fewer tokens than this gives are rare.
CHARACTERS = 5
#: Candidates that a study is taken to have before it is known how many there is time for.
ASSUMED_TRIALS = 40
#: Share of the budget that learning from text may take.
LEARNING_SHARE = 0.4


@dataclass(frozen=True)
class MeasurementBudget:
    """How thoroughly one candidate is measured."""

    windows: int
    window_tokens: int
    prompt_tokens: int
    new_tokens: int
    seconds: float
    confirm_seconds: float
    members: int


EFFORTS = (
    MeasurementBudget(16, 512, 256, 64, 12, 20, 6),
    MeasurementBudget(12, 512, 128, 32, 8, 15, 5),
    MeasurementBudget(8, 256, 128, 32, 6, 12, 4),
    MeasurementBudget(6, 256, 128, 32, 4, 8, 3),
    MeasurementBudget(4, 128, 64, 16, 2, 4, 2),
)
#: What a search may use, how many candidates it then has to have time for, and by how many of the efforts; the first
#: that fits is taken. Axes of a few percent are worth nothing where a measurement can't tell a few percent.
LADDER = (
    (SearchScope(wide=True), 30, 2),
    (SearchScope(), 10, 5),
    (SearchScope(mixes=False), 8, 5),
    (SearchScope(False, False), 6, 5),
)


@dataclass(frozen=True)
class Chosen:
    """A study and why it is this one.

    Attributes:
        config: the study.
        lines: (word, sentence) pairs for the person at the terminal.
    """

    config: LanguageStudyConfig
    lines: tuple[tuple[str, str], ...]


def choose(
    request: OptimizeRequest, source: Source, provider: tuple[str, str], rates: MachineRates, free_ram_bytes: int
) -> Chosen:
    """Pick space, evaluation and effort.

    Args:
        request: what was asked.
        source: the model.
        provider: that runs it, and why it is this one.
        rates: of this machine.
        free_ram_bytes: memory that is free.

    Raises:
        UsageError: when the budget is surely too small, or the text can't be read or is too short.
    """
    text = text_of(request, source)
    tokens = _text_tokens(text)
    first: tuple[LanguageStudyConfig, Durations] | None = None
    for means, needed, efforts in _ladder(source, provider[0]):
        for effort in EFFORTS[:efforts]:
            fitted = _fitted(effort, tokens, source)
            found = preset(provider[0], request.target, request.precision, means)
            config = _config(request, source.name, text, found, fitted, ASSUMED_TRIALS)
            parts, fits = _look(config, source, rates, free_ram_bytes)
            first = config, parts
            count = _candidates(request.budget_s, fitted.members, parts)
            if fits and count >= needed and parts.learning <= LEARNING_SHARE * request.budget_s:
                config = _config(request, source.name, text, found, fitted, _trials(count))
                return Chosen(config, _lines(request, source, provider, config, found.why, parts, count))
    assert first is not None
    config, parts = first
    least = parts.base + parts.trial + 2 * parts.member + EXPORT_S
    if least > ERROR**2 * request.budget_s:  # the machine may be busy just now, and the model easier than it looks
        raise UsageError(
            f"--budget {request.budget_s:g}s: the base, one candidate and its confirmation alone take about "
            f"{duration_text(least)} of {source.name} here. Give --budget {math.ceil(2 * least / 60)}m, or --budget 0 "
            "for one build without measuring."
        )
    smallest = SearchScope(False, False, fuses=source.kind != "onnx")
    found = preset(provider[0], request.target, request.precision, smallest)
    lines = _lines(
        request,
        source,
        provider,
        config,
        found.why,
        parts,
        max(1, _candidates(request.budget_s, EFFORTS[-1].members, parts)),
    )
    if least > request.budget_s:
        lines += (
            ("warning", f"that may take longer than the budget: about {duration_text(least)} with one candidate"),
        )
    return Chosen(config, lines)


def stop_with(config: LanguageStudyConfig, source: Source, budget_s: float, rates: MachineRates) -> StopConfig:
    """When a study that :func:`choose` made ends with another budget: as if made for it, and never earlier than before.

    Args:
        config: the study.
        source: its model.
        budget_s: seconds for all of it, with what it has taken so far.
        rates: of this machine.
    """
    choices, stop = sample_choices(config.search_space(), SAMPLE), config.stop
    parts = durations(config, source, choices, ASSUMED_TRIALS, rates)
    trials = max(stop.trials, _trials(_candidates(budget_s, config.confirm.members, parts)))
    patience = None if stop.patience is None else max(stop.patience, _patience(trials))
    return stop.model_copy(update={"trials": trials, "patience": patience, "total": budget_s})


def text_of(request: OptimizeRequest, source: Source) -> str | dict[str, Any]:
    """The text that candidates are scored on, as a YAML has it."""
    if request.text:
        return request.text if request.text.startswith("demo:") else {"file": request.text}
    return "demo:news" if source.kind == "demo" else dict(WIKITEXT)


def _text_tokens(text: str | Mapping[str, Any]) -> int:
    """Tokens of the smaller one of the two parts that candidates are scored on, at least.

    Raises:
        UsageError: when the text can't be read.
    """
    try:
        parts = splits(TextSource.parse(text).documents())
    except UsageError as error:
        raise UsageError(f"{error}\n--text FILE scores on a text of your own.") from error
    return min(sum(map(len, parts[name])) for name in ("select", "confirm")) // CHARACTERS


def _fitted(effort: MeasurementBudget, tokens: int, source: Source) -> MeasurementBudget:
    """The effort, with as many and as long windows as text and model give."""
    context = int((source.config or {}).get("max_position_embeddings") or 2048)
    length = min(effort.window_tokens, context, max(16, tokens // effort.windows // 16 * 16))
    prompt = min(effort.prompt_tokens, max(8, context // 2))
    new = min(effort.new_tokens, max(2, context // 8))
    windows = max(2, min(effort.windows, tokens // length))
    return replace(effort, windows=windows, window_tokens=length, prompt_tokens=prompt, new_tokens=new)


def _ladder(source: Source, provider: str) -> Iterator[tuple[SearchScope, int, int]]:
    """What the model and the provider allow, most first."""
    exported = source.kind != "onnx"
    mixable = exported and provider in ("cpu", "cuda")
    for rung, needed, efforts in LADDER:
        means = replace(rung, fuses=exported)
        if mixable or not means.mixes:
            yield means, needed, efforts
        elif means.wide:
            yield replace(means, mixes=False), needed, efforts


def _config(
    request: OptimizeRequest, name: str, text: object, found: Preset, effort: MeasurementBudget, trials: int
) -> LanguageStudyConfig:
    loss = 1 + request.max_loss
    raw: dict[str, Any] = {
        "name": re.sub(r"[^A-Za-z0-9._-]+", "-", f"optimize-{name}").strip("-")[-80:].lstrip("-._"),
        "model": request.model,
        "space": dict(found.space),
        "objectives": [request.metric, "perplexity_ratio"],
        "constraints": [f"perplexity_ratio <= {loss + MARGIN:.6g}"],
        "evaluation": {
            "text": text,
            "windows": effort.windows,
            "window_tokens": effort.window_tokens,
            "latency": {
                "prompt_tokens": effort.prompt_tokens,
                "new_tokens": effort.new_tokens,
                "max_seconds": effort.seconds,
            },
        },
        "calibration": {"windows": min(16, max(8, effort.windows)), "window_tokens": 512},
        "enqueue": [dict(choice) for choice in found.enqueue],
        "stop": {"trials": trials, "total": request.budget_s, "patience": _patience(trials)},
        "select": {"by": "objective", "metric": request.metric, "where": [f"perplexity_ratio <= {loss:.6g}"]},
        "confirm": {
            "members": effort.members,
            "max_seconds": effort.confirm_seconds,
            "selectable": True,
            "race": effort.confirm_seconds,
        },
    }
    if request.revision:
        raw["revision"] = request.revision
    if request.trust_remote_code:
        raw["trust_remote_code"] = True
    return parse_config(raw, "what 'olivine optimize' chose")


def _look(
    config: LanguageStudyConfig, source: Source, rates: MachineRates, free_ram_bytes: int
) -> tuple[Durations, bool]:
    """How long the parts of a study take, and whether it fits the memory."""
    choices = sample_choices(config.search_space(), SAMPLE)
    parts = durations(config, source, choices, config.stop.trials, rates)
    return parts, memory_bytes(config, source, choices) <= free_ram_bytes


def _candidates(budget_s: float, members: int, parts: Durations) -> int:
    """How many candidates there is time for."""
    rest = parts.base + parts.learning + (members + 1) * parts.member + EXPORT_S
    return max(0, int((budget_s - rest) / parts.trial))


def _trials(candidates: int) -> int:
    """The most candidates of a study that should have time for so many: more, since they may be faster."""
    return max(4, math.ceil(1.5 * candidates))


def _patience(trials: int) -> int:
    """How many of so many candidates may bring nothing before the search ends."""
    return max(10, trials // 2)


def _lines(
    request: OptimizeRequest,
    source: Source,
    provider: tuple[str, str],
    config: LanguageStudyConfig,
    why: str,
    parts: Durations,
    count: int,
) -> tuple[tuple[str, str], ...]:
    evaluation, latency = config.evaluation, config.evaluation.latency
    text = TextSource.parse(_raw_text(config)).name
    goals = f"best {title(request.metric)} at a perplexity of at most {1 + request.max_loss:g} times the float base's"
    ending = (config.confirm.members + 1) * parts.member + EXPORT_S
    sides = [f"{name} {_values(given)}" for name, given in config.space.items() if isinstance(given, (list, dict))]
    return (
        (
            "model",
            f"{source.name}: {source.architecture}, weights in {source.dtype}, "
            f"{value_text('model_bytes', source.weight_bytes)}",
        ),
        ("machine", f"{cpu_name()}, {available_cores()} cores; provider {provider[0]}: {provider[1]}"),
        ("goal", goals),
        ("search", f"{'; '.join(sides)}. Why: {why}. {len(config.enqueue)} known good recipes come first"),
        (
            "measures",
            f"paired timing of {latency.prompt_tokens} prompt and {latency.new_tokens} new tokens, "
            f"{latency.max_seconds:g} s a candidate; perplexity on {evaluation.windows} windows of "
            f"{evaluation.window_tokens} tokens of {text}; the best again on text that the search did not see",
        ),
        (
            "budget",
            f"{duration_text(request.budget_s)}: about {duration_text(parts.base + parts.learning)} for the base "
            f"and learning from text, {duration_text(ending)} for confirmation and export, time for some {count} "
            "candidates between them",
        ),
    )


def _raw_text(config: LanguageStudyConfig) -> str | dict[str, Any]:
    given = config.evaluation.text
    return given if isinstance(given, str) else given.model_dump(exclude_none=True)


def _values(given: Sequence[object] | Mapping[str, object]) -> str:
    if isinstance(given, Mapping):
        return f"{given['low']:g} to {given['high']:g}"
    return "|".join(str(value) for value in given)
