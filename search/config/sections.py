"""The sections that the YAML of every study has, as frozen types, and StudyConfig: what all kinds of studies share."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from olivine.evaluators.metric import ModelKind, metrics_of
from olivine.evaluators.providers.interpreters import interpreter
from olivine.passes.catalog import Catalog
from olivine.passes.errors import did_you_mean
from olivine.passes.providers import PROVIDERS
from olivine.search.config.constraints import Constraint, parse_constraint
from olivine.search.config.enqueue import enqueue_mistakes
from olivine.search.config.goal_mistakes import goal_mistakes
from olivine.search.config.mistakes import Mistake
from olivine.search.config.quantities import Bytes, Count, Seconds, Share, Switch, Text, Weight, Whole
from olivine.search.config.space import Space, parse_space
from olivine.search.config.space_mistakes import space_mistakes
from olivine.search.config.yaml_file import dump_yaml


class Section(BaseModel):
    """A part of the YAML: unknown keys are mistakes, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetConfig(Section):
    """A text dataset of the Hugging Face hub."""

    dataset: Text = Field(description="hub id")
    config: Text | None = Field(default=None, description="name of the dataset's configuration")
    split: Text = Field(default="test", description="split to take documents from")
    column: Text = Field(default="text", description="column that holds the text or chat messages")
    revision: Text | None = Field(default=None, description="branch, tag or commit")


class TextFileConfig(Section):
    """A local text, JSON lines, JSON, CSV, TSV or Parquet file, compressed or not."""

    file: Text = Field(description="path of the file")
    column: Text = Field(default="text", description="column that holds the text or chat messages, but for plain text")


def _form_of_text(value: object) -> str | None:
    """The form in which a text is named, so that only the mistakes of this form are reported."""
    if isinstance(value, str):
        return "name"
    if isinstance(value, TextFileConfig | DatasetConfig):
        return "file" if isinstance(value, TextFileConfig) else "dataset"
    if not isinstance(value, dict) or ("file" in value and "dataset" in value):
        return None
    return "file" if "file" in value else "dataset"


TextChoice = Annotated[
    Annotated[Text, Tag("name")] | Annotated[TextFileConfig, Tag("file")] | Annotated[DatasetConfig, Tag("dataset")],
    Discriminator(_form_of_text),
]


#: Where the timing of a candidate ends.
HalfWidth = Annotated[
    Share,
    Field(description="stop at this half-width of the 95 % interval, noise of other programs left out, such as 2%"),
]
MaxSeconds = Annotated[Seconds, Field(description="or stop after this long per candidate")]


class SamplerConfig(Section):
    """The sampler that proposes candidates."""

    name: Literal["auto", "forecast", "tpe", "random", "nsga2", "nsga3", "gp", "exhaustive"] = Field(
        default="auto",
        description="auto enumerates a space within the budget; else TPE, guided by a cost model (forecast) if it fits",
    )
    startup_trials: Count = Field(default=8, description="random trials before TPE and GP start to learn")
    aim: Literal["goal", "front"] | None = Field(
        default=None,
        description="of forecast: goal looks for the best candidate that keeps select.where, front for all trade-offs; "
        "by default goal where select has a limit",
    )


class StopConfig(Section):
    """When the search ends; whichever comes first."""

    trials: Whole = Field(default=40, ge=1, le=1_000_000, description="candidates measured, the base not counted")
    timeout: Seconds | None = Field(default=None, description="wall-clock time of the search, such as 30m")
    total: Seconds | None = Field(
        default=None, description="wall-clock time of search, confirmation and export together"
    )
    patience: Count | None = Field(default=None, description="trials in a row without growth of the front")


class ChildConfig(Section):
    """Limits of the processes that build and run candidates."""

    timeout: Seconds = Field(default=1800.0, description="longest build or single request to a model")
    memory: Bytes | None = Field(default=None, description="a process that outgrows this is ended, such as 8GB")


class SelectConfig(Section):
    """The rule that picks the deployable candidate from the confirmed front."""

    by: Literal["objective", "knee", "weights"] = Field(default="objective", description="the rule")
    metric: Text | None = Field(default=None, description="the metric to optimize; the first objective by default")
    where: tuple[Text, ...] = Field(default=(), description="further constraints on the confirmed values")
    weights: dict[str, Weight] = Field(default_factory=dict, description="weight of each objective, for by: weights")


class ConfirmConfig(Section):
    """Fresh measurements of the front, on text that the search has not seen."""

    members: Count = Field(
        default=8, description="at most this many: what 'select' may pick, and others along the front"
    )
    selectable: Switch = Field(
        default=False, description="only members that may keep 'select.where', by the intervals of the search"
    )
    windows: Whole | None = Field(
        default=None, ge=2, description="windows of held-back text; as in the search by default"
    )
    max_seconds: Seconds | None = Field(default=None, description="timing per member; as in the search by default")
    race: Seconds | None = Field(
        default=30.0, description="time for measuring near-ties again, so that luck does not decide the front; or null"
    )
    ablation: Switch = Field(
        default=False, description="also measure the selected recipe without each of its ingredients, for the report"
    )


class CacheConfig(Section):
    """The folder that keeps builds, and its limit."""

    folder: Text | None = Field(default=None, description="the default is $OLIVINE_CACHE or ~/.cache/olivine")
    max_bytes: Bytes | None = Field(
        default=None,
        description="builds are dropped above this, candidates first; by default 21 bytes a weight of a language "
        "model, at least 2 GB, and 12 GB for plain graphs",
    )
    shared: Text | None = Field(
        default=None, description="URL, such as s3://bucket/builds, where workers leave builds for each other"
    )


class ProviderConfig(Section):
    """The interpreter of an execution provider."""

    python: Text = Field(description="interpreter of the environment that has its ONNX Runtime")


class StudyConfig(Section):
    """One study: one YAML file. The keys that studies of all kinds of models have."""

    kind: ClassVar[ModelKind]
    catalog: ClassVar[Catalog]

    name: Text = Field(default="study", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the study")
    model: Text
    space: dict[str, Any] = Field(description="axis -> fixed value, list of values or {low, high, step}")
    objectives: tuple[Text, ...] = Field(min_length=2, max_length=3)
    constraints: tuple[Text, ...] = ()
    sampler: SamplerConfig = SamplerConfig()
    stop: StopConfig = StopConfig()
    seed: Whole = Field(default=0, ge=0, lt=2**32, description="of proposals, splits and the order of windows")
    enqueue: tuple[dict[str, Any], ...] = Field(
        default=(), description="measured first: known good choices, and {from: STUDY_DIR} for an earlier study's front"
    )
    select: SelectConfig = SelectConfig()
    confirm: ConfirmConfig = ConfirmConfig()
    children: ChildConfig = ChildConfig()
    cache: CacheConfig = CacheConfig()
    providers: dict[str, ProviderConfig] = Field(
        default_factory=dict, description="provider -> its environment; envs/NAME, where 'olivine provider add' made it"
    )

    @classmethod
    def mistakes(cls, raw: Mapping[Any, Any]) -> list[Mistake]:
        """Find the mistakes that need more than types: axes, metrics, constraints; each part is checked by itself."""
        space = raw.get("space")
        mistakes = space_mistakes(space, cls.catalog) if isinstance(space, dict) else []
        mistakes += enqueue_mistakes(raw.get("enqueue"), space if isinstance(space, dict) else {}, cls.catalog)
        mistakes += _provider_mistakes(raw.get("providers"))
        return mistakes + goal_mistakes(raw, cls.model_fields["objectives"].default, metrics_of(cls.kind))

    def search_space(self) -> Space:
        """The parsed search space."""
        return parse_space(self.space, self.catalog)

    def asked_providers(self) -> tuple[str, ...]:
        """The providers among the values of the space; the default where it names none."""
        domains = [domain for domain in self.search_space().domains if domain.axis.name == "provider"]
        return tuple(map(str, domains[0].values)) if domains else ("cpu",)

    def other_kinds(self) -> tuple[str, ...]:
        """Names of the texts of other kinds that confirmation scores."""
        return ()

    def pythons(self) -> dict[str, str]:
        """Provider -> interpreter, for the providers of the space that run under another one than this."""
        named = {name: provider.python for name, provider in self.providers.items()}
        interpreters = {name: interpreter(name, named) for name in self.asked_providers()}
        return {name: python for name, python in interpreters.items() if python != sys.executable}

    def parsed_constraints(self) -> tuple[Constraint, ...]:
        """The constraints that the search keeps."""
        return tuple(parse_constraint(text) for text in self.constraints)

    def to_yaml(self) -> str:
        """The resolved config, as STUDY_DIR/config.yaml holds it."""
        return dump_yaml(_stated(self, json.loads(self.model_dump_json())))


def _provider_mistakes(providers: object) -> list[Mistake]:
    """Providers that nobody knows, and interpreters that are not there."""
    mistakes: list[Mistake] = []
    for name, section in (providers if isinstance(providers, dict) else {}).items():
        if name not in PROVIDERS:
            mistakes.append((f"providers.{name}", f"unknown provider '{name}'. {did_you_mean(name, PROVIDERS)}"))
            continue
        python = section.get("python") if isinstance(section, dict) else None
        if isinstance(python, str) and shutil.which(str(Path(python).expanduser())) is None:
            cure = f"'olivine provider add {name}' makes envs/{name}/bin/python"
            mistakes.append((f"providers.{name}.python", f"'{python}' is no program that runs here; {cure}"))
    return mistakes


def _stated(section: BaseModel, dumped: Mapping[str, Any]) -> dict[str, Any]:
    """A dumped section without what is null by default; a null that switches something off stays."""
    stated = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if value is not None or field.default is not None:
            stated[name] = _stated(value, dumped[name]) if isinstance(value, BaseModel) else dumped[name]
    return stated
