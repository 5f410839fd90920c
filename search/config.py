"""StudyConfig: the YAML of a study as frozen types. Every mistake is reported at once, before any work."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from olivine.passes.errors import UsageError, did_you_mean
from olivine.search.metrics import METRICS, Constraint, parse_constraint
from olivine.search.space import Space, choice_mistakes, parse_space

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h)?")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|TB)?", re.IGNORECASE)
_POWERS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
SAMPLERS = ("auto", "tpe", "random", "nsga2", "nsga3", "gp", "exhaustive")


def parse_duration(value: object) -> object:
    """``30s``, ``12m``, ``1.5h`` or a number of seconds -> seconds."""
    if isinstance(value, str) and (found := _DURATION.fullmatch(value.strip())):
        return float(found[1]) * {"s": 1, "m": 60, "h": 3600, None: 1}[found[2]]
    return value


def parse_percent(value: object) -> object:
    """``2%`` or 0.02 -> 0.02."""
    if isinstance(value, str) and value.strip().endswith("%"):
        return float(value.strip()[:-1]) / 100
    return value


def parse_size(value: object) -> object:
    """``12GB`` or a number of bytes -> bytes."""
    if isinstance(value, str) and (found := _SIZE.fullmatch(value.strip())):
        return int(float(found[1]) * _POWERS[(found[2] or "B").upper()])
    return value


Seconds = Annotated[float, BeforeValidator(parse_duration), Field(gt=0)]
Share = Annotated[float, BeforeValidator(parse_percent), Field(gt=0, lt=1)]
Bytes = Annotated[int, BeforeValidator(parse_size), Field(gt=0)]


class _Section(BaseModel):
    """A part of the YAML: unknown keys are mistakes, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetConfig(_Section):
    """A text dataset of the Hugging Face hub."""

    dataset: str = Field(description="hub id")
    config: str | None = Field(None, description="name of the dataset's configuration")
    split: str = Field("test", description="split to take documents from")
    column: str = Field("text", description="column that holds the text")
    revision: str | None = Field(None, description="branch, tag or commit")


class TextFileConfig(_Section):
    """A local text, JSON lines, JSON or Parquet file."""

    file: str = Field(description="path of the file")
    column: str = Field("text", description="column that holds the text, for all but .txt")


class LatencyConfig(_Section):
    """Paired timing of prefill and decode."""

    prompt_tokens: int = Field(128, ge=1, le=131072, description="length of the prompt that is deployed")
    new_tokens: int = Field(32, ge=2, le=131072, description="tokens generated after it")
    half_width: Share = Field(0.02, description="stop at this half-width of the 95 % interval, such as 2%")
    max_seconds: Seconds = Field(10.0, description="or stop after this long per candidate")


class EvaluationConfig(_Section):
    """What is measured, on which text."""

    text: str | TextFileConfig | DatasetConfig = Field(
        "demo:news", description="demo:news, a local file, or a hub dataset; split into calibrate, select and confirm"
    )
    windows: int = Field(16, ge=2, le=100_000, description="windows of text scored per candidate")
    window_tokens: int = Field(512, ge=8, le=131072, description="tokens per window")
    latency: LatencyConfig = LatencyConfig()


class SamplerConfig(_Section):
    """How Optuna proposes candidates."""

    name: Literal["auto", "tpe", "random", "nsga2", "nsga3", "gp", "exhaustive"] = Field(
        "auto", description="auto enumerates a space that fits the budget and takes multi-objective TPE otherwise"
    )
    startup_trials: int = Field(8, ge=1, description="random trials before TPE and GP start to learn")


class StopConfig(_Section):
    """When the search ends; whichever comes first."""

    trials: int = Field(40, ge=1, le=1_000_000, description="candidates measured, the base not counted")
    timeout: Seconds | None = Field(None, description="wall-clock time of the search, such as 30m")
    patience: int | None = Field(None, ge=1, description="trials in a row without growth of the front")


class ChildConfig(_Section):
    """Limits of the processes that build and run candidates."""

    timeout: Seconds = Field(1800.0, description="longest build or single request to a model")
    memory: Bytes | None = Field(None, description="a process that outgrows this is ended, such as 8GB")


class SelectConfig(_Section):
    """How the deployable candidate is picked from the confirmed front."""

    by: Literal["objective", "knee", "weights"] = Field("objective", description="the rule")
    metric: str | None = Field(None, description="the metric to optimize; the first objective by default")
    where: tuple[str, ...] = Field((), description="further constraints on the confirmed values")
    weights: dict[str, float] = Field(default_factory=dict, description="weight of each objective, for by: weights")


class ConfirmConfig(_Section):
    """Fresh measurements of the front, on text that the search has not seen."""

    members: int = Field(8, ge=1, description="at most this many front members, spread along the front")
    windows: int | None = Field(None, ge=2, description="windows of held-back text; as in the search by default")
    max_seconds: Seconds | None = Field(None, description="timing per member; as in the search by default")


class CacheConfig(_Section):
    """Where builds are kept."""

    folder: str | None = Field(None, description="the default is $OLIVINE_CACHE or ~/.cache/olivine")
    max_bytes: Bytes = Field(12_000_000_000, description="least recently used builds go first above this")


class StudyConfig(_Section):
    """One study: one YAML file."""

    name: str = Field("study", pattern=r"[A-Za-z0-9][A-Za-z0-9._-]*", description="name of the study")
    model: str = Field(description="hub id, checkpoint folder, GGUF file, ONNX GenAI folder or demo:... model")
    revision: str | None = Field(None, description="branch, tag or commit of a hub model")
    trust_remote_code: bool = Field(False, description="run code that the checkpoint brings; off unless you read it")
    space: dict[str, Any] = Field(description="axis -> fixed value, list of values or {low, high, step}")
    objectives: tuple[str, ...] = Field(("tpot_ms", "perplexity_ratio"), min_length=2, max_length=3)
    constraints: tuple[str, ...] = Field((), description="such as perplexity_ratio <= 1.05 or model_bytes <= 250MB")
    evaluation: EvaluationConfig = EvaluationConfig()
    sampler: SamplerConfig = SamplerConfig()
    stop: StopConfig = StopConfig()
    seed: int = Field(0, ge=0, lt=2**32)
    enqueue: tuple[dict[str, Any], ...] = Field((), description="known good choices, measured first")
    select: SelectConfig = SelectConfig()
    confirm: ConfirmConfig = ConfirmConfig()
    children: ChildConfig = ChildConfig()
    cache: CacheConfig = CacheConfig()

    def search_space(self) -> Space:
        """The parsed search space."""
        return parse_space(self.space)

    def parsed_constraints(self) -> tuple[Constraint, ...]:
        """The constraints that the search keeps."""
        return tuple(parse_constraint(text) for text in self.constraints)

    def to_yaml(self) -> str:
        """The resolved config, as STUDY_DIR/config.yaml holds it."""
        return str(yaml.safe_dump(json.loads(self.model_dump_json(exclude_none=True)), sort_keys=False))


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader for which a key given twice is a mistake, not the last one's victory."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.MarkedYAMLError(None, None, f"the key '{key}' is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_config(path: Path, overrides: Mapping[str, str] | None = None) -> StudyConfig:
    """Read and check a study's YAML.

    Args:
        path: the file.
        overrides: dotted path -> YAML value, as ``--set`` takes them.

    Raises:
        UsageError: naming every mistake in the file, each with its place and the nearest valid word.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no YAML: {error}") from error
    if not isinstance(raw, dict):
        raise UsageError(f"{path} holds {_kind(raw)}; a study is a mapping with at least 'model:' and 'space:'")
    for dotted, text in (overrides or {}).items():
        _override(raw, dotted, text)
    return parse_config(raw, str(path))


def parse_config(raw: dict[str, Any], where: str) -> StudyConfig:
    """Check a parsed YAML mapping; ``where`` names it in messages.

    Raises:
        UsageError: as :func:`load_config`.
    """
    mistakes: list[tuple[str, str]] = []
    config = None
    try:
        config = StudyConfig.model_validate(raw)
    except ValidationError as error:
        mistakes += _structure_mistakes(error)
    mistakes += _meaning_mistakes(raw)
    if mistakes or config is None:
        lines = [f"{place}: {message}" for place, message in dict.fromkeys(mistakes)]
        count = "1 mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
        raise UsageError("\n".join([f"{where}: {count}", *(f"  {line}" for line in lines)]))
    return config


def _override(raw: dict[str, Any], dotted: str, text: str) -> None:
    *parents, last = dotted.split(".")
    section: Any = raw
    for parent in parents:
        section = section.setdefault(parent, {}) if isinstance(section, dict) else None
        if not isinstance(section, dict):
            raise UsageError(f"--set {dotted}={text}: '{parent}' is no section")
    section[last] = yaml.safe_load(text)


def _kind(value: object) -> str:
    names = {dict: "a mapping", list: "a list", str: f"the text '{value}'", type(None): "nothing", bool: f"{value}"}
    return names.get(type(value), f"the number {value}")


def _structure_mistakes(error: ValidationError) -> list[tuple[str, str]]:
    """Pydantic's errors in our words; members of a union that was not meant are left out."""
    found = []
    for one in error.errors():
        place = ".".join(str(part) for part in one["loc"] if not _is_union_tag(part))
        context = one.get("ctx", {})
        match one["type"]:
            case "extra_forbidden":
                fields = _fields_at(one["loc"][:-1])
                found.append((place, f"unknown key. {did_you_mean(str(one['loc'][-1]), fields)}"))
            case "missing":
                found.append((place, "is required"))
            case "literal_error":
                words = re.findall(r"'([^']*)'", context["expected"])
                found.append((place, f"unknown value '{one['input']}'. {did_you_mean(str(one['input']), words)}"))
            case _:
                message = one["msg"][0].lower() + one["msg"][1:]
                found.append((place, f"{message}; found {_kind(one['input'])}"))
    return found


def _is_union_tag(part: object) -> bool:
    return part in ("str", "TextFileConfig", "DatasetConfig", "float", "constrained-float")


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    """Keys that are valid at a place of the YAML."""
    model: Any = StudyConfig
    for part in location:
        if part in ("TextFileConfig", "DatasetConfig"):
            model = {"TextFileConfig": TextFileConfig, "DatasetConfig": DatasetConfig}[str(part)]
        elif isinstance(part, str) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            options = [annotation, *get_args(annotation)]
            model = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), model)
    return list(model.model_fields)


def _meaning_mistakes(raw: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Mistakes that need more than the types: axes, metrics, constraints; each part is checked by itself."""
    found: list[tuple[str, str]] = []
    if isinstance(space := raw.get("space"), dict):
        found += choice_mistakes(space, "space")
    enqueue = raw.get("enqueue")
    for index, choice in enumerate(enqueue if isinstance(enqueue, list) else []):
        if isinstance(choice, dict):
            found += choice_mistakes(choice, f"enqueue.{index}", fixed=True)
    found += _metric_mistakes(_strings(raw.get("objectives")), "objectives")
    found += _constraint_mistakes(_strings(raw.get("constraints")), "constraints")
    if isinstance(select := raw.get("select"), dict):
        found += _constraint_mistakes(_strings(select.get("where")), "select.where")
        if isinstance(select.get("metric"), str):
            found += _metric_mistakes([select["metric"]], "select.metric")
        if select.get("by") == "weights":
            names = list(select.get("weights") or {})
            objectives = _strings(raw.get("objectives")) or ["tpot_ms", "perplexity_ratio"]
            found += [
                (f"select.weights.{n}", f"is no objective. {did_you_mean(n, objectives)}")
                for n in names
                if n not in objectives
            ]
            if not names:
                found.append(("select.weights", f"is required by 'by: weights': one for each of {', '.join(objectives)}"))
    objectives = _strings(raw.get("objectives"))
    if len(set(objectives)) < len(objectives):
        found.append(("objectives", "names a metric twice"))
    return found


def _strings(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _metric_mistakes(names: list[str], place: str) -> list[tuple[str, str]]:
    return [(place, f"unknown metric '{n}'. {did_you_mean(n, METRICS)}") for n in names if n not in METRICS]


def _constraint_mistakes(texts: list[str], place: str) -> list[tuple[str, str]]:
    found = []
    for text in texts:
        try:
            parse_constraint(text)
        except UsageError as error:
            found.append((place, str(error)))
    return found
