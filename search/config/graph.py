"""GraphStudyConfig: the YAML of a study of a plain ONNX graph or an encoder. It is one by its ``inputs:``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from olivine.passes.catalog import GRAPH
from olivine.search.config.mistakes import Mistake
from olivine.search.config.quantities import Switch, Text, Whole
from olivine.search.config.sections import HalfWidth, MaxSeconds, Section, StudyConfig, TextChoice
from olivine.search.config.task import TaskConfig, task_mistakes

#: Keys of the shared sections that mean nothing here.
_NO_EFFECT = {"confirm": ("windows",)}

Size = Annotated[Whole, Field(ge=1, le=1_000_000)]


class InputsConfig(Section):
    """Shapes and samples that the graph runs on."""

    shapes: dict[str, dict[str, Size]] = Field(
        min_length=1, description="name -> sizes of the graph's open axes; latency is timed on each"
    )
    text: TextChoice | None = Field(
        default=None, description="samples are documents of this text, cut by the tokenizer in the model's folder"
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


class GraphLatencyConfig(Section):
    """Timing of runs of the graph, base and candidate side by side."""

    half_width: HalfWidth = 0.02
    max_seconds: MaxSeconds = 6.0


class GraphEvaluationConfig(Section):
    """Measurements of a candidate beside the base."""

    output: Text | None = Field(default=None, description="the output that is compared; the first one by default")
    logits: Switch = Field(
        default=False, description="its last axis holds logits: kl_divergence and top1_agreement are measured too"
    )
    multi_label: Switch = Field(
        default=False, description="each logit is of a label of its own, which holds or does not; needs logits: true"
    )
    task: TaskConfig | None = Field(default=None, description="labelled rows of one's own and a metric")
    latency: GraphLatencyConfig = GraphLatencyConfig()


class GraphStudyConfig(StudyConfig):
    """One study of a plain graph: one YAML file."""

    kind = "graph"
    catalog = GRAPH

    model: Text = Field(description=".onnx file, folder of an encoder's checkpoint, or demo:... model")
    objectives: tuple[Text, ...] = Field(
        default=("latency_ms", "cosine_distance"),
        min_length=2,
        max_length=3,
        description="two or three metrics to optimize",
    )
    constraints: tuple[Text, ...] = Field(default=(), description="such as cosine_distance <= 0.01")
    architecture: Text | None = Field(
        default=None, description="architecture of an .onnx file, for fusion: bert, vit, ...; read from a checkpoint"
    )
    inputs: InputsConfig = Field(description="shapes and samples that the graph runs on")
    evaluation: GraphEvaluationConfig = GraphEvaluationConfig()

    @classmethod
    def mistakes(cls, raw: Mapping[Any, Any]) -> list[Mistake]:
        """Find the mistakes that need more than types; also keys that mean nothing for a graph."""
        return [
            *super().mistakes(raw),
            *_sample_mistakes(raw),
            *_keys_without_effect(raw),
            *_label_mistakes(raw),
            *task_mistakes(raw),
        ]

    def sizes(self) -> dict[str, int]:
        """Sizes of the open axes in the first shape."""
        return dict(next(iter(self.inputs.shapes.values())))

    def confirmed_share(self) -> float:
        """Confirmation scores as many samples as the search."""
        return 1.0


def _sample_mistakes(raw: Mapping[Any, Any]) -> list[Mistake]:
    inputs = raw.get("inputs")
    sources = [name for name in ("text", "pictures", "data") if isinstance(inputs, dict) and inputs.get(name)]
    if len(sources) < 2:
        return []
    return [("inputs", f"takes samples from one of text, pictures and data; found {', '.join(sources)}")]


def _label_mistakes(raw: Mapping[Any, Any]) -> list[Mistake]:
    evaluation = raw.get("evaluation")
    if isinstance(evaluation, dict) and evaluation.get("multi_label") is True and evaluation.get("logits") is not True:
        return [("evaluation.multi_label", "speaks of logits: write logits: true beside it")]
    return []


def _keys_without_effect(raw: Mapping[Any, Any]) -> list[Mistake]:
    sections = {name: raw[name] for name in ("sampler", *_NO_EFFECT) if isinstance(raw.get(name), dict)}
    mistakes = [
        (f"{name}.{key}", "has no effect in a study of a plain graph: leave it out")
        for name, keys in _NO_EFFECT.items()
        for key in keys
        if sections.get(name, {}).get(key) not in (None, False)
    ]
    if sections.get("sampler", {}).get("name") == "forecast":
        mistakes.append(("sampler.name", "'forecast' is for language models; take auto, tpe or another"))
    return mistakes
