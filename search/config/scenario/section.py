"""The section ``scenario:`` of a study: the use that candidates are measured and exported for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from olivine.evaluators.scenario.scenario import OWN, READY, Scenario
from olivine.passes.errors import UsageError, did_you_mean
from olivine.search.config.quantities import Count, Text, Whole, describe
from olivine.search.config.sections import Section
from olivine.search.config.yaml_file import read_value


class ScenarioConfig(Section):
    """The use that a model is deployed for: context, prompts, answers and turns."""

    name: Text = Field(
        default=OWN, description=f"ready scenario that gives what is not named: {', '.join(READY)}; {OWN} for none"
    )
    context: Whole = Field(
        default=0, ge=0, le=1 << 24, description="tokens of prompts and answers that have to fit; 0 for what they take"
    )
    prompt_tokens: Whole = Field(default=128, ge=1, le=131072, description="tokens of the first prompt")
    new_tokens: Whole = Field(default=32, ge=2, le=131072, description="tokens of each answer")
    turns: Count = Field(default=1, description="prompts of one conversation, whose earlier turns stay in the cache")
    turn_tokens: Count = Field(default=64, description="tokens of each prompt after the first")
    prompts: Text = Field(
        default="",
        description="file with prompts of one's own, in the place of lengths: .txt with blank lines between them, or "
        ".jsonl with a text or chat messages, or ready ones such as demo:code-edit; they go through the model's chat "
        "template",
    )

    @model_validator(mode="after")
    def _fits(self) -> ScenarioConfig:
        """Refuse lengths that do not fit the context."""
        try:
            self.facts()
        except UsageError as error:
            raise ValueError(str(error)) from error
        return self

    def facts(self) -> Scenario:
        """The scenario as evaluators take it."""
        return Scenario(**self.model_dump()).complete()


def _stated(value: object) -> object:
    """A scenario with all that its ready one gives.

    Raises:
        ValueError: for a name that no ready scenario has.
    """
    if isinstance(value, str):
        value = {"name": value}
    if value is None or isinstance(value, ScenarioConfig):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"takes one of {', '.join(READY)}, or a mapping; found {describe(value)}")  # noqa: TRY004 - pydantic wants ValueError
    name = value.get("name", OWN)
    if name == OWN or not isinstance(name, str):
        return dict(value)
    if name not in READY:
        raise ValueError(f"unknown scenario '{name}'. {did_you_mean(name, (*READY, OWN))}")
    ready = asdict(READY[name])
    if value.get("prompts"):
        ready["turns"] = 1  # each prompt of a file begins a conversation
    elif not value.keys().isdisjoint(("prompt_tokens", "turns", "turn_tokens")):
        ready["prompts"] = ""  # lengths of one's own are those of random tokens
    return {**ready, **value}


ScenarioChoice = Annotated[ScenarioConfig | None, BeforeValidator(_stated)]


def read_scenario(value: object) -> Scenario:
    """The scenario that a value of a YAML stands for.

    Raises:
        ValueError: for one that is none, also pydantic's of its fields.
    """
    return ScenarioConfig.model_validate(_stated(value)).facts()


def parse_scenario(option: str, text: str) -> Scenario:
    """The scenario of a command line: a ready name, or a mapping as a YAML has it.

    Raises:
        UsageError: naming every mistake in it.
    """
    try:
        return read_scenario(read_value(option, text))
    except ValidationError as error:
        mistakes = [f"{'.'.join(map(str, e['loc'])) or 'scenario'}: {_words(e)}" for e in error.errors()]
        raise UsageError(f"{option}{text}: {'; '.join(mistakes)}") from error
    except ValueError as error:
        raise UsageError(f"{option}{text}: {error}") from error


def _words(error: Mapping[str, Any]) -> str:
    """An error of pydantic in plain words."""
    if error["type"] == "extra_forbidden":
        return f"unknown key. {did_you_mean(str(error['loc'][-1]), ScenarioConfig.model_fields)}"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return f"{error['msg'][0].lower()}{error['msg'][1:]}; found {describe(error['input'])}"
