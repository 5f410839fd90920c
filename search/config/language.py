"""StudyConfig: the YAML of a study as frozen types. Every mistake is reported at once, before any work."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from olivine.evaluators.providers.interpreters import interpreter
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import UsageError
from olivine.search.config.constraints import Constraint, parse_constraint
from olivine.search.config.mistakes import meaning_mistakes, report, structure_mistakes
from olivine.search.config.quantities import Bytes, Count, Seconds, Share, Switch, Text, Weight, Whole
from olivine.search.config.space import Space, parse_space
from olivine.search.config.yaml_file import override, read_yaml
from olivine.search.study.warm_start import earlier_studies, front_choices


class _Section(BaseModel):
    """A part of the YAML: unknown keys are mistakes, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetConfig(_Section):
    """A text dataset of the Hugging Face hub."""

    dataset: Text = Field(description="hub id")
    config: Text | None = Field(default=None, description="name of the dataset's configuration")
    split: Text = Field(default="test", description="split to take documents from")
    column: Text = Field(default="text", description="column that holds the text")
    revision: Text | None = Field(default=None, description="branch, tag or commit")


class TextFileConfig(_Section):
    """A local text, JSON lines, JSON or Parquet file."""

    file: Text = Field(description="path of the file")
    column: Text = Field(default="text", description="column that holds the text, for all but .txt")


def _kind_of_text(value: object) -> str | None:
    """Which form of ``evaluation.text`` is meant, so that only its mistakes are reported."""
    if isinstance(value, str):
        return "name"
    if isinstance(value, TextFileConfig | DatasetConfig):
        return "file" if isinstance(value, TextFileConfig) else "dataset"
    if not isinstance(value, dict) or ("file" in value and "dataset" in value):
        return None
    return "file" if "file" in value else "dataset"


TextChoice = Annotated[
    Annotated[Text, Tag("name")] | Annotated[TextFileConfig, Tag("file")] | Annotated[DatasetConfig, Tag("dataset")],
    Discriminator(_kind_of_text),
]


class LatencyConfig(_Section):
    """Paired timing of prefill and decode."""

    prompt_tokens: Whole = Field(default=128, ge=1, le=131072, description="length of the prompt that is deployed")
    new_tokens: Whole = Field(default=32, ge=2, le=131072, description="tokens generated after it")
    half_width: Share = Field(
        default=0.02,
        description="stop at this half-width of the 95 % interval, without what neighbours on a host do, such as 2%",
    )
    max_seconds: Seconds = Field(default=10.0, description="or stop after this long per candidate")


class LmEvalConfig(_Section):
    """Tasks of lm-eval, measured on the base and the confirmed front; needs the extra ``olivine[lm-eval]``."""

    tasks: tuple[Text, ...] = Field(min_length=1, description="tasks or groups of lm-eval, such as [arc_easy]")
    limit: Whole | None = Field(default=None, ge=1, description="questions of each task, from its start; or all")
    include_path: Text | None = Field(default=None, description="folder with task files of your own")


class EvaluationConfig(_Section):
    """What is measured, on which text."""

    text: TextChoice = Field(
        default="demo:news",
        description="demo:news, a local file, or a hub dataset; split into calibrate, select and confirm",
    )
    windows: Whole = Field(default=16, ge=2, le=100_000, description="windows of text scored per candidate")
    window_tokens: Whole = Field(default=512, ge=8, le=131072, description="tokens per window")
    audit: Share | None = Field(
        default=0.1, description="share of the candidates dropped on few windows that are measured in full anyway"
    )
    latency: LatencyConfig = LatencyConfig()
    lm_eval: LmEvalConfig | None = Field(
        default=None, description="tasks of lm-eval on the confirmed front; not part of stop.total"
    )


class CalibrationConfig(_Section):
    """Text that passes may learn from (algorithm: gptq): the `calibrate` part of `evaluation.text`."""

    windows: Whole = Field(default=16, ge=1, le=100_000, description="windows of text; fewer where there are no more")
    window_tokens: Whole = Field(
        default=512, ge=8, le=131072, description="tokens per window; fewer where the model's context is shorter"
    )


class SamplerConfig(_Section):
    """How Optuna proposes candidates."""

    name: Literal["auto", "forecast", "tpe", "random", "nsga2", "nsga3", "gp", "exhaustive"] = Field(
        default="auto",
        description="auto enumerates a space that fits the budget; else a forecast guides TPE, where one can be made",
    )
    startup_trials: Count = Field(default=8, description="random trials before TPE and GP start to learn")


class StopConfig(_Section):
    """When the search ends; whichever comes first."""

    trials: Whole = Field(default=40, ge=1, le=1_000_000, description="candidates measured, the base not counted")
    timeout: Seconds | None = Field(default=None, description="wall-clock time of the search, such as 30m")
    total: Seconds | None = Field(
        default=None, description="wall-clock time of search, confirmation and export together, by what trials take"
    )
    patience: Count | None = Field(default=None, description="trials in a row without growth of the front")


class ChildConfig(_Section):
    """Limits of the processes that build and run candidates."""

    timeout: Seconds = Field(default=1800.0, description="longest build or single request to a model")
    memory: Bytes | None = Field(default=None, description="a process that outgrows this is ended, such as 8GB")


class SelectConfig(_Section):
    """How the deployable candidate is picked from the confirmed front."""

    by: Literal["objective", "knee", "weights"] = Field(default="objective", description="the rule")
    metric: Text | None = Field(default=None, description="the metric to optimize; the first objective by default")
    where: tuple[Text, ...] = Field(default=(), description="further constraints on the confirmed values")
    weights: dict[str, Weight] = Field(default_factory=dict, description="weight of each objective, for by: weights")


class ConfirmConfig(_Section):
    """Fresh measurements of the front, on text that the search has not seen."""

    members: Count = Field(
        default=8, description="at most this many: what 'select' may pick, and others along the front"
    )
    selectable: Switch = Field(
        default=False, description="only members that 'select.where' may let through, by what the search measured"
    )
    windows: Whole | None = Field(
        default=None, ge=2, description="windows of held-back text; as in the search by default"
    )
    max_seconds: Seconds | None = Field(default=None, description="timing per member; as in the search by default")
    race: Seconds | None = Field(
        default=30.0, description="time for measuring near-ties again, so that the front does not hang on luck; or null"
    )
    ablation: Switch = Field(
        default=False, description="also measure the selected recipe without each of its ingredients, for the report"
    )


class CacheConfig(_Section):
    """Where builds are kept."""

    folder: Text | None = Field(default=None, description="the default is $OLIVINE_CACHE or ~/.cache/olivine")
    max_bytes: Bytes | None = Field(
        default=None,
        description="builds are dropped above this, candidates first; by default 21 bytes a weight of a language "
        "model, at least 2 GB, and 12 GB for plain graphs",
    )
    shared: Text | None = Field(
        default=None, description="URL, such as s3://bucket/builds, where workers leave builds for each other"
    )


class ProviderConfig(_Section):
    """Where an execution provider runs."""

    python: Text = Field(description="interpreter of the environment that has its ONNX Runtime")


class LanguageStudyConfig(_Section):
    """One study: one YAML file."""

    name: Text = Field(default="study", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the study")
    model: Text = Field(description="hub id, checkpoint folder, GGUF file, ONNX GenAI folder or demo:... model")
    revision: Text | None = Field(default=None, description="branch, tag or commit of a hub model")
    trust_remote_code: Switch = Field(
        default=False, description="run code that the checkpoint brings; off unless you read it"
    )
    space: dict[str, Any] = Field(description="axis -> fixed value, list of values or {low, high, step}")
    objectives: tuple[Text, ...] = Field(default=("tpot_ms", "perplexity_ratio"), min_length=2, max_length=3)
    constraints: tuple[Text, ...] = Field(
        default=(), description="such as perplexity_ratio <= 1.05 or model_bytes <= 250MB"
    )
    evaluation: EvaluationConfig = EvaluationConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    sampler: SamplerConfig = SamplerConfig()
    stop: StopConfig = StopConfig()
    seed: Whole = Field(default=0, ge=0, lt=2**32)
    enqueue: tuple[dict[str, Any], ...] = Field(
        default=(), description="measured first: known good choices, and {from: STUDY_DIR} for an earlier study's front"
    )
    select: SelectConfig = SelectConfig()
    confirm: ConfirmConfig = ConfirmConfig()
    kernel_probe: Switch = Field(
        default=True, description="time this machine's kernels first, and do not propose what is far slower than others"
    )
    children: ChildConfig = ChildConfig()
    cache: CacheConfig = CacheConfig()
    providers: dict[str, ProviderConfig] = Field(
        default_factory=dict, description="provider -> its environment; envs/NAME, where 'olivine provider add' made it"
    )

    def search_space(self) -> Space:
        """The parsed search space."""
        return parse_space(self.space)

    def asked_providers(self) -> tuple[str, ...]:
        """The providers among the values of the space; the default where it names none."""
        domains = [domain for domain in self.search_space().domains if domain.axis.name == "provider"]
        return tuple(map(str, domains[0].values if domains else (LANGUAGE.axes["provider"].default,)))

    def pythons(self) -> dict[str, str]:
        """Provider -> interpreter, for the providers of the space that run under another one than this."""
        named = {name: given.python for name, given in self.providers.items()}
        found = {name: interpreter(name, named) for name in self.asked_providers()}
        return {name: python for name, python in found.items() if python != sys.executable}

    def parsed_constraints(self) -> tuple[Constraint, ...]:
        """The constraints that the search keeps."""
        return tuple(parse_constraint(text) for text in self.constraints)

    def to_yaml(self) -> str:
        """The resolved config, as STUDY_DIR/config.yaml holds it."""
        return str(yaml.safe_dump(stated(self, json.loads(self.model_dump_json())), sort_keys=False))


def stated(section: BaseModel, dumped: dict[str, Any]) -> dict[str, Any]:
    """A dumped section without what is null by default; a null that switches something off stays."""
    for name, known in type(section).model_fields.items():
        value = getattr(section, name)
        if value is None and known.default is None:
            del dumped[name]
        elif isinstance(value, BaseModel):
            stated(value, dumped[name])
    return dumped


def load_config(path: Path, overrides: Mapping[str, str] | None = None) -> LanguageStudyConfig:
    """Read and check a study's YAML.

    Args:
        path: the file.
        overrides: dotted path -> YAML value, as ``--set`` takes them.

    Raises:
        UsageError: naming every mistake in the file, each with its place and the nearest valid word.
    """
    raw = read_yaml(path)
    override(raw, overrides or {})
    earlier = earlier_studies(raw)
    config = parse_config(raw, str(path))
    warm = front_choices(earlier, config.search_space())
    return config.model_copy(update={"enqueue": (*config.enqueue, *warm)})


def parse_config(raw: dict[Any, Any], where: str) -> LanguageStudyConfig:
    """Check a parsed YAML mapping; ``where`` names it in messages.

    Raises:
        UsageError: as :func:`load_config`.
    """
    mistakes: list[tuple[str, str]] = []
    config = None
    try:
        config = LanguageStudyConfig.model_validate(raw)
    except ValidationError as error:
        mistakes += structure_mistakes(error, LanguageStudyConfig)
    mistakes += meaning_mistakes(raw)
    if mistakes or config is None:
        raise UsageError(report(mistakes, raw, where))
    return config
