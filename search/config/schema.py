"""The JSON schema of a study's YAML, for editors that complete and check while one types.

``python -m olivine.search.config.schema`` writes ``configs/schema.json`` and, for studies of plain graphs,
``configs/plain-schema.json``; a YAML names its own in its first line:

    # yaml-language-server: $schema=schema.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from olivine.evaluators.metric import metrics_of
from olivine.evaluators.scenario.scenario import READY
from olivine.passes.base import Axis
from olivine.search.config.graph import GraphStudyConfig
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.sections import StudyConfig

#: Name of a schema's file -> the kind of study that it describes.
SCHEMAS: dict[str, type[StudyConfig]] = {"schema.json": LanguageStudyConfig, "plain-schema.json": GraphStudyConfig}
_JSON_TYPES = {"int": "integer", "float": "number", "bool": "boolean"}


def json_schema(model: type[StudyConfig]) -> dict[str, Any]:
    """The schema of one kind of study: pydantic's, with the axes, metrics and constraints that it does not know of."""
    schema = model.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "olivine study of a plain graph" if model.kind == "graph" else "olivine study"
    properties, select = schema["properties"], schema["$defs"]["SelectConfig"]["properties"]
    properties["space"] |= _axes(True, model.catalog.axes) | {"minProperties": 1}
    properties["enqueue"]["items"] = {
        "anyOf": [_axes(False, model.catalog.axes) | {"minProperties": 1}, _EARLIER_STUDY]
    }
    if "scenario" in properties:
        properties["scenario"]["anyOf"].insert(0, {"enum": list(READY)})
    metrics = metrics_of(model.kind)
    names = {"enum": list(metrics)}
    properties["objectives"] |= {"items": names, "uniqueItems": True}
    properties["constraints"]["items"] = select["where"]["items"] = _constraint(metrics)
    select["metric"]["anyOf"] = [names, {"type": "null"}]
    select["weights"]["propertyNames"] = names
    return schema


def to_text(model: type[StudyConfig]) -> str:
    """The schema of one kind of study as its file holds it."""
    return json.dumps(json_schema(model), indent=2) + "\n"


_EARLIER_STUDY = {
    "type": "object",
    "properties": {
        "from": {"type": "string", "description": "folder of an earlier study: its front is measured first"}
    },
    "required": ["from"],
    "additionalProperties": False,
}


def _axes(searched: bool, axes: Mapping[str, Axis]) -> dict[str, Any]:
    """One property an axis: a value; where it is ``searched`` also a list of values or a range."""
    return {
        "type": "object",
        "properties": {name: _axis(axis, searched) for name, axis in axes.items()},
        "additionalProperties": False,
    }


def _axis(axis: Axis, searched: bool) -> dict[str, Any]:
    value = _value(axis)
    about = {"description": axis.doc, "default": axis.default if axis.newer_default is None else axis.newer_default}
    if not searched:
        return about | value
    forms = [value, {"type": "array", "items": value, "minItems": 1, "uniqueItems": True}]
    if axis.kind in ("int", "float"):
        forms.append(
            {
                "type": "object",
                "properties": {
                    "low": value,
                    "high": value,
                    "step": {"type": _JSON_TYPES[axis.kind], "exclusiveMinimum": 0},
                },
                "required": ["low", "high"],
                "additionalProperties": False,
            }
        )
    return about | {"anyOf": forms}


def _value(axis: Axis) -> dict[str, Any]:
    if axis.kind == "choice":
        return {"enum": list(axis.values)}
    bounds = dict(zip(("minimum", "maximum"), axis.bounds, strict=True)) if axis.bounds else {}
    return {"type": _JSON_TYPES[axis.kind], **bounds}


def _constraint(metrics: Sequence[str]) -> dict[str, Any]:
    number, unit = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", "[A-Za-z]*|%"
    return {"type": "string", "pattern": rf"^\s*({'|'.join(metrics)})\s*(<=|>=)\s*{number}\s*({unit})\s*$"}


def main() -> None:
    """Write the schemas to a folder: the first argument, ``configs`` by default."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "configs")
    for name, model in SCHEMAS.items():
        (folder / name).write_text(to_text(model), encoding="utf-8")


if __name__ == "__main__":
    main()
