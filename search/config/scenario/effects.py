"""Effects of a scenario on a study: what it decides, what contradicts it, and the model that it has to fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from olivine.evaluators.metric import SCENARIO_METRICS
from olivine.evaluators.scenario.scenario import READY, Scenario
from olivine.passes.errors import UsageError
from olivine.passes.providers import PROVIDERS
from olivine.passes.sources.model_shape import context_length
from olivine.passes.sources.source import Source
from olivine.search.config.goal_mistakes import goal_metrics
from olivine.search.config.mistakes import Mistake
from olivine.search.config.scenario.section import read_scenario

#: Keys of evaluation.latency that a scenario decides.
_TIMING = ("prompt_tokens", "new_tokens")
_CURE = f"Add 'scenario: chat', or another of {', '.join(READY)}"


def with_scenario(raw: Any) -> Any:
    """A study's YAML with what its scenario decides: the context in the space, the lengths that are timed."""
    if not isinstance(raw, Mapping) or raw.get("scenario") is None:
        return raw
    space, evaluation = raw.get("space"), raw.get("evaluation", {})
    timing = evaluation.get("latency", {}) if isinstance(evaluation, Mapping) else None
    if not isinstance(space, Mapping) or not isinstance(timing, Mapping):
        return raw
    try:
        scenario = read_scenario(raw["scenario"])
    except ValueError:  # reported with its field
        return raw
    lengths = {name: getattr(scenario, name) for name in _TIMING}
    evaluation = {**evaluation, "latency": {**timing, **lengths}}
    return {**raw, "space": {**space, "context": scenario.context}, "evaluation": evaluation}


def scenario_mistakes(raw: Mapping[Any, Any]) -> list[Mistake]:
    """Find what contradicts the scenario, and goals that need one or another provider."""
    if raw.get("scenario") is None:
        return [(place, f"'{metric}' is measured in a scenario. {_CURE}") for place, metric in _goals(raw)]
    try:
        scenario = read_scenario(raw["scenario"])
    except ValueError:  # reported with its field
        return []
    return [*_contradictions(raw, scenario), *_elsewhere(raw)]


def _goals(raw: Mapping[Any, Any]) -> list[tuple[str, str]]:
    return [(place, metric) for place, metric in goal_metrics(raw) if metric in SCENARIO_METRICS]


def _contradictions(raw: Mapping[Any, Any], scenario: Scenario) -> list[Mistake]:
    space, evaluation = raw.get("space"), raw.get("evaluation")
    timing = evaluation.get("latency") if isinstance(evaluation, Mapping) else None
    named = {f"evaluation.latency.{n}": (timing.get(n), getattr(scenario, n)) for n in _TIMING} if timing else {}
    if isinstance(space, Mapping):
        named["space.context"] = (space.get("context"), scenario.context)
    return [
        (place, f"is {value}, and the scenario's is {own}. Leave it out, or change it in 'scenario'")
        for place, (value, own) in named.items()
        if value is not None and value != own
    ]


def _elsewhere(raw: Mapping[Any, Any]) -> list[Mistake]:
    """Goals that ONNX Runtime GenAI measures, in a space of providers that it has no build for."""
    space = raw.get("space")
    providers = space.get("provider", "cpu") if isinstance(space, Mapping) else "cpu"
    names = [str(p) for p in (providers if isinstance(providers, list) else [providers])]
    without = sorted({name for name in names if name in PROVIDERS and not PROVIDERS[name].genai})
    return [
        (place, f"'{metric}' is measured by ONNX Runtime GenAI, which has no build for {', '.join(without)}")
        for place, metric in _goals(raw)
        if without and metric != "context_bytes"
    ]


def check_fits(scenario: Scenario | None, source: Source) -> None:
    """Refuse a context that is longer than the model's.

    Raises:
        UsageError: with both lengths.
    """
    longest = context_length(source)
    if scenario is not None and longest is not None and scenario.context > longest:
        raise UsageError(
            f"scenario.context: {scenario.context} tokens; {source.name} takes {longest}. Name a shorter one, such as "
            f"scenario: {{name: {scenario.name}, context: {longest}}}, with prompts that fit it."
        )
