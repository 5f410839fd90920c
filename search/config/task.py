"""TaskConfig: ``evaluation.task`` of a study of a plain graph, and mistakes between its parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from olivine.evaluators.data.rows import TABLES
from olivine.evaluators.data.text_file import file_kind
from olivine.evaluators.metric import TASK_METRICS
from olivine.evaluators.quality.label_scores import OF_CLASSES
from olivine.evaluators.quality.row_predictions import Prediction
from olivine.search.config.goal_mistakes import goal_metrics
from olivine.search.config.mistakes import Mistake
from olivine.search.config.quantities import Text, Whole, describe
from olivine.search.config.sections import Section


def _columns(value: object) -> tuple[str, ...]:
    """``COLUMN`` or ``[COLUMN, COLUMN]``."""
    columns = (value,) if isinstance(value, str) else value
    if (
        not isinstance(columns, list | tuple)
        or len(columns) not in (1, 2)
        or not all(isinstance(column, str) for column in columns)
    ):
        raise ValueError(f"takes a column, or a list of two columns for a pair of texts; found {describe(value)}")
    return tuple(columns)


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


class TaskInputsConfig(Section):
    """Columns of a row that hold the graph's inputs."""

    text: Columns = Field(description="column with the text, or [COLUMN, COLUMN] for a pair of texts")


class TaskConfig(Section):
    """A task of one's own: task_score and task_drop are measured on labelled rows."""

    data: Text = Field(description="JSON lines, JSON, CSV, TSV or Parquet file, or id of a hub data set")
    config: Text | None = Field(default=None, description="name of a hub data set's configuration")
    split: Text | None = Field(default=None, description="split of a hub data set; test by default")
    revision: Text | None = Field(default=None, description="branch, tag or commit of a hub data set")
    inputs: TaskInputsConfig = Field(description="columns of a row that hold the graph's inputs")
    label: Text = Field(
        default="label",
        description="column with the label: a class; a value for value and cosine; a list of the labels that hold for "
        "labels; a list with a class a word for tokens",
    )
    metric: Text = Field(
        default="accuracy",
        description="accuracy, f1, matthews_correlation, pearsonr or spearmanr; else what evaluate loads, whose code "
        "is run: a hub id or a local script. Larger is better, from -1 to 1",
    )
    prediction: Prediction = Field(
        default="argmax",
        description="class of the greatest logit (argmax), of one logit above 0 (threshold), labels whose logits are "
        "above 0 (labels), class of each word (tokens), the one value (value), cosine of two embeddings (cosine)",
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
        return path if file_kind(path) in TABLES or path.exists() else None


def task_mistakes(raw: Mapping[Any, Any]) -> list[Mistake]:
    """Find mistakes in ``evaluation.task``, and goals that speak of a task where there is none."""
    evaluation = raw.get("evaluation")
    task = evaluation.get("task") if isinstance(evaluation, dict) else None
    if task is None:
        return [
            (place, f"{metric} needs evaluation.task: the labelled rows that it is measured on")
            for place, metric in goal_metrics(raw)
            if metric in TASK_METRICS
        ]
    if not isinstance(task, dict):
        return []
    mistakes: list[Mistake] = []
    inputs, metric, prediction = task.get("inputs"), task.get("metric", "accuracy"), task.get("prediction", "argmax")
    text = inputs.get("text") if isinstance(inputs, dict) else None
    columns = [text] if isinstance(text, str) else text if isinstance(text, list) else []
    if prediction == "cosine" and len(columns) == 1:
        reason = f"'cosine' compares two texts: write [COLUMN, COLUMN]; found {text}"
        mistakes.append(("evaluation.task.inputs.text", reason))
    if prediction == "tokens" and len(columns) == 2:
        mistakes.append(("evaluation.task.inputs.text", f"'tokens' takes one column, a list of words; found {text}"))
    if prediction in ("value", "cosine") and metric in OF_CLASSES:
        reason = f"'{metric}' compares classes; a {prediction} is none: take pearsonr or spearmanr"
        mistakes.append(("evaluation.task.metric", reason))
    if isinstance(data := task.get("data"), str) and file_kind(Path(data)) in TABLES:
        mistakes += [
            (f"evaluation.task.{key}", f"has no effect for a file such as {data}: leave it out")
            for key in ("config", "split", "revision")
            if task.get(key) is not None
        ]
    return mistakes
