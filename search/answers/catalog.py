"""The shape of each command's answer, and their JSON schema.

``python -m olivine.search.answers.catalog`` writes ``schema.json`` beside this file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from olivine.search.answers.folders import FolderResults, GuessGains, MadeFolder, Verification
from olivine.search.answers.machine import AddedProvider, Doctor, ModelSupport
from olivine.search.answers.planned import Recipes, StudyPlan, Validity
from olivine.search.answers.study import Comparison, Front, Optimized, Status, Trials

#: Command, with the argument that changes its answer -> the shape of it.
SHAPES: Mapping[str, type[BaseModel]] = {
    "validate": Validity,
    "plan": StudyPlan,
    "run": Status,
    "trials": Trials,
    "compare": Comparison,
    "status": Status,
    "front": Front,
    "export": MadeFolder,
    "verify": Verification,
    "build": MadeFolder,
    "optimize": Optimized,
    "bench": FolderResults,
    "bench --speculation": GuessGains,
    "eval": FolderResults,
    "provider add": AddedProvider,
    "recipes list": Recipes,
    "doctor": Doctor,
    "doctor MODEL": ModelSupport,
}
SCHEMA = Path(__file__).with_name("schema.json")


def schema() -> dict[str, Any]:
    """The JSON schema of all answers: command -> its shape in ``properties``, and the shapes in ``$defs``."""
    models = dict.fromkeys(SHAPES.values())
    references, definitions = models_json_schema([(model, "serialization") for model in models])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "answers of olivine's commands with --json",
        "type": "object",
        "properties": {command: references[model, "serialization"] for command, model in SHAPES.items()},
        **definitions,
    }


def to_text() -> str:
    """The schema as its file holds it."""
    return json.dumps(schema(), indent=2) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(to_text(), encoding="utf-8")
