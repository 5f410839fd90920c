"""The JSON schema of a study's YAML, for editors that complete and check while one types.

``python -m olivine.search.schema`` writes ``configs/schema.json``; a YAML names it in its first line:

    # yaml-language-server: $schema=schema.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from olivine.passes.base import Axis
from olivine.passes.catalog import AXES
from olivine.search.config import StudyConfig
from olivine.search.metrics import METRICS

PATH = Path("configs/schema.json")
_JSON_TYPES = {"int": "integer", "float": "number", "bool": "boolean"}


def json_schema() -> dict[str, Any]:
    """The schema: pydantic's, with the axes, metrics and constraints that pydantic does not know of."""
    schema = StudyConfig.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "olivine study"
    properties, select = schema["properties"], schema["$defs"]["SelectConfig"]["properties"]
    properties["space"] |= _axes(searched=True) | {"minProperties": 1}
    properties["enqueue"]["items"] = {"anyOf": [_axes(searched=False) | {"minProperties": 1}, _EARLIER_STUDY]}
    properties["objectives"] |= {"items": _metric_names(), "uniqueItems": True}
    properties["constraints"]["items"] = select["where"]["items"] = _constraint()
    select["metric"]["anyOf"] = [_metric_names(), {"type": "null"}]
    select["weights"]["propertyNames"] = _metric_names()
    return schema


_EARLIER_STUDY = {
    "type": "object",
    "properties": {
        "from": {"type": "string", "description": "folder of an earlier study: its front is measured first"}
    },
    "required": ["from"],
    "additionalProperties": False,
}


def to_text() -> str:
    """The schema as ``configs/schema.json`` holds it."""
    return json.dumps(json_schema(), indent=2) + "\n"


def _axes(searched: bool) -> dict[str, Any]:
    """One property an axis: a value; where it is ``searched`` also a list of values or a range."""
    return {
        "type": "object",
        "properties": {name: _axis(axis, searched) for name, axis in AXES.items()},
        "additionalProperties": False,
    }


def _axis(axis: Axis, searched: bool) -> dict[str, Any]:
    value = _value(axis)
    about = {"description": axis.doc, "default": axis.default}
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


def _metric_names() -> dict[str, Any]:
    return {"enum": list(METRICS)}


def _constraint() -> dict[str, Any]:
    number, unit = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", "[A-Za-z]*|%"
    return {"type": "string", "pattern": rf"^\s*({'|'.join(METRICS)})\s*(<=|>=)\s*{number}\s*({unit})\s*$"}


def main() -> None:
    """Write the schema to ``configs/schema.json``, or to the path that is given."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else PATH
    path.write_text(to_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
