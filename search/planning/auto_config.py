"""The study that ``olivine optimize`` runs: chosen from the model, the machine and the budget.

The choice is a YAML like any other, so that what ran can be read, changed and run again. Durations are estimated
(``estimate.py``); the study itself then ends by what its trials really took (``study/stopping.py``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from olivine.evaluators.data.text_source import TextSource, splits
from olivine.evaluators.data.tokenizing import join_messages
from olivine.passes.base import Scalar
from olivine.passes.cpu import available_cores, cpu_name
from olivine.passes.errors import UsageError
from olivine.passes.sources.model_shape import context_length, head_is_embedding
from olivine.passes.sources.source import Source
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.load import language_config, parse_config
from olivine.search.config.sections import StopConfig
from olivine.search.planning.estimate.estimator import Durations, memory_bytes
from olivine.search.planning.estimate.fit import large_cache
from olivine.search.planning.estimate.language import LanguageEstimator
from olivine.search.planning.machine_speed import MachineRates
from olivine.search.planning.optimize_request import OptimizeRequest
from olivine.search.planning.pick_provider import ProviderChoice
from olivine.search.planning.preflight import CHARACTERS_PER_TOKEN, ESTIMATE_ERROR
from olivine.search.planning.presets import (
    MEASUREMENT_BUDGETS,
    TIERS,
    WIKITEXT,
    MeasurementBudget,
    Preset,
    SearchScope,
    Tier,
    preset,
    speculation,
    with_guesses,
)
from olivine.search.report.formatting import duration_text, value_text
from olivine.search.samplers.random_choices import sample_choices
from olivine.search.study.stopping import EXPORT_S
from olivine.search.workloads.newer_defaults import newer_defaults
from olivine.search.workloads.text_defaults import OWN, reachable_others

#: How far the search looks beyond the allowed loss: what it sees there teaches the sampler where the edge is.
MARGIN = 0.25
#: Choices drawn to see what candidates are like.
SAMPLE = 200
#: Candidates that a study is taken to have before it is known how many there is time for.
ASSUMED_TRIALS = 40
#: Share of the budget that learning from text may take.
LEARNING_SHARE = 0.4


@dataclass(frozen=True)
class Chosen:
    """A study and why it is this one.

    Attributes:
        config: the study.
        lines: (word, sentence) pairs for the person at the terminal.
    """

    config: LanguageStudyConfig
    lines: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Chooser:
    """Everything that a choice depends on."""

    request: OptimizeRequest
    source: Source
    provider: ProviderChoice
    rates: MachineRates
    free_ram_bytes: int
    text: str | dict[str, Any]
    others: dict[str, str]
    newer: Mapping[str, Scalar]
    note: str
    packs_cache: bool

    def preset(self, scope: SearchScope) -> Preset:
        return preset(self.provider.name, self.request.target, self.request.precision, scope, bool(self.source.codes))

    def tiers(self) -> Iterator[Tier]:
        """The tiers that the model and the provider allow, the largest first."""
        exported = self.source.kind != "onnx"
        mixable = exported and self.provider.name in ("cpu", "cuda")
        for tier in TIERS.values():
            shares, packs = exported and head_is_embedding(self.source), tier.scope.learns and self.packs_cache
            scope = replace(tier.scope, fuses=exported, shares=shares, packs_cache=packs)
            if mixable or not scope.mixes:
                yield replace(tier, scope=scope)
            elif scope.wide:
                yield replace(tier, scope=replace(scope, mixes=False))

    def clamp(self, budget: MeasurementBudget, tokens: int) -> MeasurementBudget:
        """The budget with as many and as long windows and prompts as a text of so many tokens and the model give."""
        context = context_length(self.source) or 2048
        if (use := self.request.use()) is not None:
            budget = budget.at_context(use.context)
        length = min(budget.window_tokens, context, max(16, tokens // budget.windows // 16 * 16))
        prompt, new = min(budget.prompt_tokens, max(8, context // 2)), min(budget.new_tokens, max(2, context // 8))
        if use is not None:
            prompt, new = use.prompt_tokens, use.new_tokens
        lengths = {"window_tokens": length, "prompt_tokens": prompt, "new_tokens": new}
        return replace(budget, windows=max(2, min(budget.windows, tokens // length)), **lengths)

    def config(self, preset: Preset, budget: MeasurementBudget, trials: int, own: float) -> LanguageStudyConfig:
        request, loss, use = self.request, 1 + self.request.max_loss, self.request.use()
        guesses = speculation(use, self.provider.name, request.target, self.newer)
        raw: dict[str, Any] = {
            "name": re.sub(r"[^A-Za-z0-9._-]+", "-", f"optimize-{self.source.name}").strip("-")[-80:].lstrip("-._"),
            "model": request.model,
            "space": {**preset.space, **self.newer, **guesses},
            "objectives": [request.metric, "perplexity_ratio"],
            "constraints": [f"perplexity_ratio <= {loss + MARGIN:.6g}", *request.memory_constraint],
            "evaluation": {
                "text": self.text,
                "other_texts": self.others,
                "windows": budget.windows,
                "window_tokens": budget.window_tokens,
                "latency": {
                    "prompt_tokens": budget.prompt_tokens,
                    "new_tokens": budget.new_tokens,
                    "max_seconds": budget.seconds,
                },
            },
            "calibration": {"windows": min(16, max(8, budget.windows)), "window_tokens": 512, "own": own},
            "sampler": {"aim": "goal"},
            "enqueue": [dict(choice) for choice in with_guesses(preset.enqueue, guesses)],
            "stop": {"trials": trials, "total": request.budget_s, "patience": _patience(trials)},
            "select": {"by": "objective", "metric": request.metric, "where": [f"perplexity_ratio <= {loss:.6g}"]},
            "confirm": {
                "members": budget.members,
                "selectable": True,
                **dict.fromkeys(("max_seconds", "race"), budget.confirm_seconds),
            },
        }
        raw |= {"revision": request.revision, "scenario": use and asdict(use)}
        raw |= {"trust_remote_code": request.trust_remote_code}
        return language_config(parse_config(raw, "what 'olivine optimize' chose"))

    def estimate(self, config: LanguageStudyConfig) -> tuple[Durations, bool]:
        """Durations of the parts of a study, and whether it fits the memory."""
        estimator = LanguageEstimator(config, self.source, sample_choices(config.search_space(), SAMPLE))
        return estimator.durations(config.stop.trials, self.rates), memory_bytes(estimator) <= self.free_ram_bytes

    def lines(self, config: LanguageStudyConfig, why: str, parts: Durations, count: int) -> tuple[tuple[str, str], ...]:
        """The choice in words, with time for so many candidates."""
        request, source, provider, evaluation = self.request, self.source, self.provider, config.evaluation
        timed, ending = evaluation.latency, (config.confirm.members + 1) * parts.member + EXPORT_S
        searched = [f"{axis} {_values(v)}" for axis, v in config.space.items() if isinstance(v, (list, dict))]
        size = f"weights in {source.dtype}, {value_text('model_bytes', source.weight_bytes)}"
        return (
            ("model", f"{source.name}: {source.architecture}, {size}"),
            ("machine", f"{cpu_name()}, {available_cores()} cores; provider {provider.name}: {provider.why}"),
            ("goal", request.goal),
            ("search", f"{'; '.join(searched)}. Why: {why}. {len(config.enqueue)} known good recipes come first"),
            (
                "measures",
                f"paired timing of {timed.prompt_tokens} prompt and {timed.new_tokens} new tokens, "
                f"{timed.max_seconds:g} s a candidate; perplexity on {evaluation.windows} windows of "
                f"{evaluation.window_tokens} tokens of {TextSource.parse(self.text).name}; the best again on text that "
                "the search did not see",
            ),
            (
                "budget",
                f"{duration_text(request.budget_s)}: about {duration_text(parts.base + parts.learning)} for the base "
                f"and learning from text, {duration_text(ending)} for confirmation and export, time for some {count} "
                "candidates between them",
            ),
            *((("note", self.note),) if self.note else ()),
        )


def choose(
    request: OptimizeRequest,
    source: Source,
    provider: ProviderChoice,
    rates: MachineRates,
    free_ram_bytes: int,
    budgets: Sequence[MeasurementBudget] = MEASUREMENT_BUDGETS,
) -> Chosen:
    """Choose the search space and how each candidate is measured.

    Args:
        request: from the command line.
        source: the model.
        provider: that runs it.
        rates: speed of this machine.
        free_ram_bytes: memory that is free.
        budgets: the ways to measure a candidate, from the most thorough to the least.

    Raises:
        UsageError: when the time is surely too short, or the text can't be read or is too short.
    """
    text = text_of(request, source)
    tokens = _text_tokens(text)
    newer, note = newer_defaults(request.model)
    others, packs = reachable_others(text), large_cache(source, request.use(), request.fit_bytes)
    chooser = _Chooser(request, source, provider, rates, free_ram_bytes, text, others, newer, note, packs)
    smallest: tuple[LanguageStudyConfig, Durations] | None = None
    for tier in chooser.tiers():
        space = chooser.preset(tier.scope)
        for budget in budgets[: tier.budgets]:
            clamped = chooser.clamp(budget, tokens)
            for own in (OWN, 0.0):  # a large model takes long to write text for itself
                config = chooser.config(space, clamped, ASSUMED_TRIALS, own)
                parts, fits = chooser.estimate(config)
                smallest = config, parts
                count = _candidates(request.budget_s, clamped.members, parts)
                if fits and count >= tier.candidates and parts.learning <= LEARNING_SHARE * request.budget_s:
                    config = chooser.config(space, clamped, _trials(count), own)
                    return Chosen(config, chooser.lines(config, space.why, parts, count))
    if smallest is None:
        raise UsageError("there is no way to measure a candidate")
    return _smallest(chooser, *smallest)


def _smallest(chooser: _Chooser, config: LanguageStudyConfig, parts: Durations) -> Chosen:
    """The smallest study, for which no tier has time; a refusal where not even one candidate has."""
    budget_s, name = chooser.request.budget_s, chooser.source.name
    least = parts.base + parts.trial + 2 * parts.member + EXPORT_S
    if least > ESTIMATE_ERROR**2 * budget_s:  # the machine may be busy just now, and the model easier than it looks
        raise UsageError(
            f"--budget {budget_s:g}s: the base, one candidate and its confirmation alone take about "
            f"{duration_text(least)} of {name} here. Give --budget {math.ceil(2 * least / 60)}m, or --budget 0 "
            "for one build without measuring."
        )
    why = chooser.preset(SearchScope(False, False, fuses=chooser.source.kind != "onnx")).why
    lines = chooser.lines(config, why, parts, max(1, _candidates(budget_s, MEASUREMENT_BUDGETS[-1].members, parts)))
    if least > budget_s:
        lines += (("warning", f"it may take longer than the budget: about {duration_text(least)} with one candidate"),)
    return Chosen(config, lines)


def stop_with(config: LanguageStudyConfig, source: Source, budget_s: float, rates: MachineRates) -> StopConfig:
    """The ``stop:`` of a study that :func:`choose` made, as if made for another budget, and never earlier than before.

    Args:
        config: the study.
        source: its model.
        budget_s: seconds for all of it, with what it has taken so far.
        rates: speed of this machine.
    """
    stop = config.stop
    estimator = LanguageEstimator(config, source, sample_choices(config.search_space(), SAMPLE))
    parts = estimator.durations(ASSUMED_TRIALS, rates)
    trials = max(stop.trials, _trials(_candidates(budget_s, config.confirm.members, parts)))
    patience = None if stop.patience is None else max(stop.patience, _patience(trials))
    return stop.model_copy(update={"trials": trials, "patience": patience, "total": budget_s})


def text_of(request: OptimizeRequest, source: Source) -> str | dict[str, Any]:
    """The text that candidates are scored on, as a YAML has it."""
    if request.text:
        return request.text if request.text.startswith("demo:") else {"file": request.text}
    return "demo:news" if source.kind == "demo" else dict(WIKITEXT)


def _text_tokens(text: str | Mapping[str, Any]) -> int:
    """Least tokens of the smaller one of the two parts that candidates are scored on.

    Raises:
        UsageError: when the text can't be read.
    """
    try:
        parts = splits(TextSource.parse(text).documents(join_messages))
    except UsageError as error:
        raise UsageError(f"{error}\n--text FILE scores on a text of your own.") from error
    return min(sum(map(len, parts[name])) for name in ("select", "confirm")) // CHARACTERS_PER_TOKEN


def _candidates(budget_s: float, members: int, parts: Durations) -> int:
    """Number of candidates that there is time for."""
    rest = parts.base + parts.learning + (members + 1) * parts.member + EXPORT_S
    return max(0, int((budget_s - rest) / parts.trial))


def _trials(candidates: int) -> int:
    """The most candidates of a study that should have time for so many: more, since they may be faster."""
    return max(4, math.ceil(1.5 * candidates))


def _patience(trials: int) -> int:
    """Candidates in a row that may bring nothing before a search of so many ends."""
    return max(10, trials // 2)


def _values(domain: Sequence[object] | Mapping[str, object]) -> str:
    if isinstance(domain, Mapping):
        return f"{domain['low']:g} to {domain['high']:g}"
    return "|".join(str(value) for value in domain)
