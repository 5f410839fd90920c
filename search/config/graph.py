"""PlainStudyConfig: the YAML of a study of a plain ONNX graph or an encoder. It is one by its ``inputs:``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from olivine.evaluators.metric import metrics_of
from olivine.passes.catalog import GRAPH
from olivine.passes.errors import UsageError
from olivine.search.config.constraints import Constraint, parse_constraint
from olivine.search.config.language import (
    CacheConfig,
    ChildConfig,
    ConfirmConfig,
    LanguageStudyConfig,
    SamplerConfig,
    SelectConfig,
    StopConfig,
    TextChoice,
    parse_config,
    stated,
)
from olivine.search.config.mistakes import goal_mistakes, report, structure_mistakes
from olivine.search.config.quantities import Seconds, Share, Switch, Text, Whole
from olivine.search.config.space import Space, parse_space
from olivine.search.config.space_mistakes import Mistake, choice_mistakes, differing_from_base, no_axis, space_mistakes
from olivine.search.config.task import TaskConfig, task_mistakes
from olivine.search.config.yaml_file import override, read_yaml

USUAL_OBJECTIVES = ("latency_ms", "cosine_distance")
#: Keys of the shared sections that mean nothing here.
_NO_EFFECT = {"confirm": ("windows", "ablation"), "cache": ("shared",)}

Size = Annotated[Whole, Field(ge=1, le=1_000_000)]


class _Section(BaseModel):
    """A part of the YAML: unknown keys are mistakes, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class InputsConfig(_Section):
    """What the graph is run on."""

    shapes: dict[str, dict[str, Size]] = Field(
        min_length=1, description="name -> sizes of the graph's open axes; latency is timed on each"
    )
    text: TextChoice | None = Field(
        default=None, description="samples are its documents, cut by the tokenizer in the model's folder"
    )
    tokens: Whole = Field(default=128, ge=2, le=131072, description="most tokens of such a sample")
    pictures: Text | None = Field(
        default=None, description="demo:photos, or a folder of pictures: samples are random crops of them"
    )
    data: Text | None = Field(
        default=None, description=".npz with an array an input, one sample a row; made-up values where nothing is named"
    )
    samples: Whole = Field(default=32, ge=2, le=100_000, description="samples that outputs are compared on")
    calibrate: Whole = Field(default=32, ge=1, le=100_000, description="samples that static ranges are learned from")


class GraphLatencyConfig(_Section):
    """Paired timing."""

    half_width: Share = Field(
        default=0.02,
        description="stop at this half-width of the 95 % interval, without what neighbours on a host do, such as 2%",
    )
    max_seconds: Seconds = Field(default=6.0, description="or stop after this long per candidate")


class GraphEvaluationConfig(_Section):
    """What is measured."""

    output: Text | None = Field(default=None, description="the output that is compared; the first one by default")
    logits: Switch = Field(
        default=False, description="its last axis holds logits: kl_divergence and top1_agreement are measured too"
    )
    task: TaskConfig | None = Field(default=None, description="labelled rows of one's own and a metric")
    latency: GraphLatencyConfig = GraphLatencyConfig()


class GraphStudyConfig(_Section):
    """One study of a plain graph: one YAML file."""

    name: Text = Field(default="study", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the study")
    model: Text = Field(description=".onnx file, folder of an encoder's checkpoint, or demo:... model")
    architecture: Text | None = Field(
        default=None, description="what an .onnx file is, for fusion: bert, vit, ...; a checkpoint says it itself"
    )
    inputs: InputsConfig = Field(description="what the graph is run on")
    space: dict[str, Any] = Field(description="axis -> fixed value, list of values or {low, high, step}")
    objectives: tuple[Text, ...] = Field(default=USUAL_OBJECTIVES, min_length=2, max_length=3)
    constraints: tuple[Text, ...] = Field(default=(), description="such as cosine_distance <= 0.01")
    evaluation: GraphEvaluationConfig = GraphEvaluationConfig()
    sampler: SamplerConfig = SamplerConfig()
    stop: StopConfig = StopConfig()
    seed: Whole = Field(default=0, ge=0, lt=2**32)
    enqueue: tuple[dict[str, Any], ...] = Field(default=(), description="measured first: known good choices")
    select: SelectConfig = SelectConfig()
    confirm: ConfirmConfig = ConfirmConfig()
    children: ChildConfig = ChildConfig()
    cache: CacheConfig = CacheConfig()

    def search_space(self) -> Space:
        """The parsed search space."""
        return parse_space(self.space, GRAPH.axes)

    def parsed_constraints(self) -> tuple[Constraint, ...]:
        """The constraints that the search keeps."""
        return tuple(parse_constraint(text) for text in self.constraints)

    def sizes(self) -> dict[str, int]:
        """Sizes of the open axes in the first shape."""
        return dict(next(iter(self.inputs.shapes.values())))

    def to_yaml(self) -> str:
        """The resolved config, as STUDY_DIR/config.yaml holds it."""
        return str(yaml.safe_dump(stated(self, json.loads(self.model_dump_json())), sort_keys=False))


def is_plain(raw: Mapping[Any, Any]) -> bool:
    """Whether a parsed YAML is a study of a plain graph."""
    return "inputs" in raw


def load_any(path: Path, overrides: Mapping[str, str] | None = None) -> LanguageStudyConfig | GraphStudyConfig:
    """Read and check the YAML of a study, whatever kind of model it is about.

    Raises:
        UsageError: as :func:`olivine.search.config.language.load_config`.
    """
    from olivine.search.config.language import load_config

    raw = read_yaml(path)
    if not is_plain(raw):
        return load_config(path, overrides)
    override(raw, overrides or {})
    return parse_plain(raw, str(path))


def parse_any(raw: dict[Any, Any], where: str) -> LanguageStudyConfig | GraphStudyConfig:
    """Check a parsed YAML mapping of either kind."""
    return parse_plain(raw, where) if is_plain(raw) else parse_config(raw, where)


def parse_plain(raw: dict[Any, Any], where: str) -> GraphStudyConfig:
    """Check a parsed YAML mapping; ``where`` names it in messages.

    Raises:
        UsageError: naming every mistake, each with its place and the nearest valid word.
    """
    mistakes: list[Mistake] = []
    config = None
    try:
        config = GraphStudyConfig.model_validate(raw)
    except ValidationError as error:
        mistakes += structure_mistakes(error, GraphStudyConfig)
    mistakes += _meaning_mistakes(raw)
    if mistakes or config is None:
        raise UsageError(report(mistakes, raw, where))
    return config


def _meaning_mistakes(raw: Mapping[Any, Any]) -> list[Mistake]:
    found: list[Mistake] = []
    space = raw.get("space")
    if isinstance(space, dict):
        found += space_mistakes(space, GRAPH.axes)
    enqueue = raw.get("enqueue")
    for index, choice in enumerate(enqueue if isinstance(enqueue, list) else []):
        place, others = f"enqueue.{index}", space if isinstance(space, dict) else {}
        if isinstance(choice, dict):
            found += choice_mistakes(choice, place, others, GRAPH.axes) if choice else [(place, no_axis(GRAPH.axes))]
            found += differing_from_base(choice, place, others, GRAPH.axes)
    inputs = raw.get("inputs")
    if isinstance(inputs, dict):
        named = [name for name in ("text", "pictures", "data") if inputs.get(name) is not None]
        if len(named) > 1:
            found.append(("inputs", f"takes samples from one of text, pictures and data; found {', '.join(named)}"))
    sampler = raw.get("sampler")
    if isinstance(sampler, dict) and sampler.get("name") == "forecast":
        found.append(("sampler.name", "'forecast' is for language models; take auto, tpe or another"))
    for section, keys in _NO_EFFECT.items():
        given = raw.get(section)
        if isinstance(given, dict):
            found += [
                (f"{section}.{key}", "has no effect in a study of a plain graph: leave it out")
                for key in keys
                if given.get(key) not in (None, False)
            ]
    return found + task_mistakes(raw) + goal_mistakes(raw, USUAL_OBJECTIVES, metrics_of("graph"))
