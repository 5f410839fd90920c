"""Speculation in a study: what it needs, so that its search can tell what guesses gain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from olivine.evaluators.metric import ANSWER_METRICS
from olivine.evaluators.scenario.guesses import MIN_TOKENS
from olivine.evaluators.scenario.scenario import Scenario
from olivine.passes.providers import PROVIDERS
from olivine.passes.transforms.prune_head import PruneHead
from olivine.passes.transforms.speculate import Speculate
from olivine.search.config.goal_mistakes import goal_metrics
from olivine.search.config.mistakes import Mistake
from olivine.search.config.scenario.section import read_scenario

_AXES = [axis.name for axis in Speculate.axes]
_CURE = "Name a scenario with prompts: 'scenario: code-edit', or {context: 4096, new_tokens: 300, prompts: mine.jsonl}"


def speculation_mistakes(raw: Mapping[Any, Any]) -> list[Mistake]:
    """Find axes of speculation, and goals about guesses, in a study that can't time whole answers to real prompts."""
    try:
        scenario = None if raw.get("scenario") is None else read_scenario(raw["scenario"])
    except ValueError:  # reported with its field
        return []
    named, goals = list(_named(raw)), _goals(raw)
    if f"space.{_AXES[0]}" not in named and (idle := _idle_head_mistakes(raw)):
        return idle
    if scenario is None or not scenario.prompts:
        reason = (
            "guesses are timed on the model's own answers to real prompts, of which this study has none; random tokens "
            f"tell nothing of them. {_CURE}. Without a search: olivine build, and olivine bench DIR --speculation FILE"
        )
        said = f"is measured on answers to real prompts, of which this study has none. {_CURE}"
        return [*((place, reason) for place in named), *((place, f"'{metric}' {said}") for place, metric in goals)]
    if not named:
        return []
    return [(place, reason) for place in named for reason in _reasons(raw, scenario)] + _head_mistakes(raw, named)


def _named(raw: Mapping[Any, Any]) -> Iterator[str]:
    """The places that name an axis of speculation."""
    space, enqueued = raw.get("space"), raw.get("enqueue")
    choices = [("space", space)]
    choices += [(f"enqueue.{n}", choice) for n, choice in enumerate(enqueued if isinstance(enqueued, list) else ())]
    for place, choice in choices:
        if isinstance(choice, Mapping):
            yield from (f"{place}.{name}" for name in _AXES if name in choice)


def _goals(raw: Mapping[Any, Any]) -> list[tuple[str, str]]:
    return [(place, metric) for place, metric in goal_metrics(raw) if metric in ANSWER_METRICS]


def _reasons(raw: Mapping[Any, Any], scenario: Scenario) -> Iterator[str]:
    """The reasons why this study can't time guesses."""
    space = raw.get("space")
    providers = space.get("provider", "cpu") if isinstance(space, Mapping) else "cpu"
    names = [str(p) for p in (providers if isinstance(providers, list) else [providers])]
    without = sorted({name for name in names if name in PROVIDERS and not PROVIDERS[name].genai})
    if without:
        yield (
            f"ONNX Runtime GenAI makes the guesses, and has no build for {', '.join(without)}. Leave that provider "
            "out: all candidates of a study run by one loop"
        )
    if scenario.new_tokens < MIN_TOKENS:
        yield (
            f"answers of {scenario.new_tokens} tokens tell nothing of guesses; at least {MIN_TOKENS}: raise "
            "scenario.new_tokens"
        )


def _idle_head_mistakes(raw: Mapping[Any, Any]) -> list[Mistake]:
    """Both values of the head in a study without guesses, where the whole one has nothing to gain."""
    space, name = raw.get("space"), PruneHead.name
    values = space.get(name) if isinstance(space, Mapping) else None
    if not isinstance(values, list) or sorted(values, key=str) != [False, True]:
        return []
    reason = (
        f"takes one value in a study without {_AXES[0]}: the whole head gives the same tokens and reads prompts more "
        f"slowly. Write {name}: true."
    )
    return [(f"space.{name}", reason)]


def _head_mistakes(raw: Mapping[Any, Any], named: list[str]) -> list[Mistake]:
    """A space that does not say how the head is, which in a new study leaves no room for guesses."""
    space, place = raw.get("space"), f"space.{_AXES[0]}"
    if not isinstance(space, Mapping) or PruneHead.name in space or place not in named:
        return []
    name = PruneHead.name
    reason = (
        f"guesses need the logits of every position, and a new study prunes the head. Write {name}: [true, false], so "
        f"that the search weighs one against the other, or {name}: false"
    )
    return [(place, reason)]
