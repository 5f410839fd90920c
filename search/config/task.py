"""TaskConfig: ``evaluation.task`` of a plain study, and what its parts say against each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from olivine.evaluators.metric import TASK_METRICS
from olivine.evaluators.quality.label_scores import OF_CLASSES
from olivine.passes.errors import UsageError
from olivine.search.config.constraints import Constraint, parse_constraint
from olivine.search.config.quantities import Text, Whole, describe
from olivine.search.config.space_mistakes import Mistake

#: Files with rows; another name is that of a hub data set.
FILES = (".jsonl", ".json", ".csv", ".parquet")


def _columns(value: object) -> tuple[str, ...]:
    """``COLUMN`` or ``[COLUMN, COLUMN]``."""
    found = (value,) if isinstance(value, str) else value
    if (
        not isinstance(found, list | tuple)
        or len(found) not in (1, 2)
        or not all(isinstance(one, str) for one in found)
    ):
        raise ValueError(f"takes a column, or a list of two columns for a pair of texts; found {describe(value)}")
    return tuple(found)


Columns = Annotated[
    tuple[str, ...],
    BeforeValidator(_columns),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2},
            ]
        }
    ),
]


class _Section(BaseModel):
    """A part of the YAML: unknown keys are mistakes, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskInputsConfig(_Section):
    """Where the graph's inputs are in a row."""

    text: Columns = Field(description="column with the text, or [COLUMN, COLUMN] for a pair of texts")


class TaskConfig(_Section):
    """A task of one's own: task_score and task_drop are measured on labelled rows."""

    data: Text = Field(description="JSON lines, JSON, CSV or Parquet file, or id of a hub data set")
    config: Text | None = Field(default=None, description="name of a hub data set's configuration")
    split: Text | None = Field(default=None, description="split of a hub data set; test by default")
    revision: Text | None = Field(default=None, description="branch, tag or commit of a hub data set")
    inputs: TaskInputsConfig = Field(description="where the graph's inputs are in a row")
    label: Text = Field(default="label", description="column with the label: a class, or a value for cosine")
    metric: Text = Field(
        default="accuracy",
        description="accuracy, f1, matthews_correlation, pearsonr or spearmanr; else what evaluate loads, whose code "
        "is run: a hub id or a local script. Larger is better, from -1 to 1",
    )
    prediction: Literal["argmax", "cosine"] = Field(
        default="argmax", description="class of the greatest logit, or cosine of the embeddings of two texts"
    )
    limit: Whole = Field(
        default=500,
        ge=2,
        le=1_000_000,
        description="most rows that the search scores; confirmation has others",
    )

    @property
    def file(self) -> Path | None:
        """The local file; None for a hub data set."""
        path = Path(self.data).expanduser()
        return path if path.suffix in FILES or path.exists() else None


def task_mistakes(raw: Mapping[Any, Any]) -> list[Mistake]:
    """Mistakes in ``evaluation.task``, and in goals that speak of a task where there is none."""
    evaluation = raw.get("evaluation")
    task = evaluation.get("task") if isinstance(evaluation, dict) else None
    if task is None:
        return [
            (place, f"{metric} needs evaluation.task: the labelled rows that it is measured on")
            for place, metric in _named(raw)
        ]
    found: list[Mistake] = []
    if not isinstance(task, dict):
        return found
    inputs, metric = task.get("inputs"), task.get("metric", "accuracy")
    text = inputs.get("text") if isinstance(inputs, dict) else None
    if task.get("prediction") == "cosine":
        if isinstance(text, str) or (isinstance(text, list) and len(text) == 1):
            found.append(
                ("evaluation.task.inputs.text", f"'cosine' compares two texts: write [COLUMN, COLUMN]; found {text}")
            )
        if metric in OF_CLASSES:
            found.append(
                (
                    "evaluation.task.metric",
                    f"'{metric}' compares classes; a cosine is none: take pearsonr or spearmanr",
                )
            )
    if isinstance(data := task.get("data"), str) and Path(data).suffix in FILES:
        found += [
            (f"evaluation.task.{key}", f"has no effect for a file such as {data}: leave it out")
            for key in ("config", "split", "revision")
            if task.get(key) is not None
        ]
    return found


def _named(raw: Mapping[Any, Any]) -> list[tuple[str, str]]:
    """(place, metric) wherever objectives, constraints or the selection name a task's metric."""
    select = raw.get("select")
    rule: Mapping[Any, Any] = select if isinstance(select, dict) else {}
    places = [(f"objectives.{i}", name) for i, name in enumerate(_list(raw.get("objectives")))]
    places += [("select.metric", rule.get("metric"))]
    for place, texts in (("constraints", raw.get("constraints")), ("select.where", rule.get("where"))):
        places += [(f"{place}.{i}", _metric(text)) for i, text in enumerate(_list(texts))]
    return [(place, str(name)) for place, name in places if name in TASK_METRICS]


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _metric(text: object) -> str | None:
    try:
        found: Constraint | None = parse_constraint(text) if isinstance(text, str) else None
    except UsageError:
        return None
    return found.metric if found else None
