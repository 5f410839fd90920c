from __future__ import annotations

import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from olivine.evaluators.metric import metrics_of
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import UsageError
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.load import parse_config
from olivine.search.config.schema import SCHEMAS, json_schema, to_text

ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
VALIDATORS = {name: jsonschema.Draft202012Validator(json_schema(model)) for name, model in SCHEMAS.items()}
VALIDATOR = VALIDATORS["schema.json"]
SOUND: dict[str, Any] = {"model": "org/name", "space": {"precision": ["int8", "int4"]}}


def sound(**changes: Any) -> dict[str, Any]:
    return {**deepcopy(SOUND), **changes}


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schema_file_is_in_sync(name: str) -> None:
    written = (ROOT / "configs" / name).read_text(encoding="utf-8")
    assert written == to_text(SCHEMAS[name]), "run: python -m olivine.search.config.schema"


def test_the_module_writes_the_schemas(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "olivine.search.config.schema", str(tmp_path)], check=True)
    written = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert written == {name: to_text(model) for name, model in SCHEMAS.items()}


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schema_is_itself_valid(name: str) -> None:
    schema = json_schema(SCHEMAS[name])
    jsonschema.Draft202012Validator.check_schema(schema)
    assert json.loads(to_text(SCHEMAS[name])) == schema


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_is_valid_and_names_the_schema(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    raw = yaml.safe_load(text)
    schema = "plain-schema.json" if "inputs" in raw else "schema.json"
    assert text.startswith(f"# yaml-language-server: $schema={schema}\n")
    assert [error.message for error in VALIDATORS[schema].iter_errors(raw)] == []


@pytest.mark.parametrize("name", LANGUAGE.axes)
def test_every_axis_completes_with_its_values(name: str) -> None:
    described = json_schema(LanguageStudyConfig)["properties"]["space"]["properties"][name]
    assert described["description"] == LANGUAGE.axes[name].doc
    for value in LANGUAGE.axes[name].values or [LANGUAGE.axes[name].default]:
        for given in (value, [value]):
            assert VALIDATOR.is_valid(sound(space={name: given})), given
        assert VALIDATOR.is_valid(sound(enqueue=[{name: value}]))
        assert not VALIDATOR.is_valid(sound(enqueue=[{name: [value]}]))


@pytest.mark.parametrize("metric", metrics_of("language"))
def test_every_metric_can_be_objective_and_constraint(metric: str) -> None:
    other = "tpot_ms" if metric != "tpot_ms" else "ttft_ms"
    assert VALIDATOR.is_valid(sound(objectives=[metric, other], constraints=[f"{metric} >= 1.5e-3"]))


@pytest.mark.parametrize(
    "changes",
    [
        {"spce": {}},
        {"space": {"precison": "int4"}},
        {"space": {"precision": "int3"}},
        {"space": {"precision": []}},
        {"space": {}},
        {"space": {"precision": {"low": 4, "high": 8}}},
        {"space": {"threads": {"low": 1}}},
        {"space": {"threads": 2.5}},
        {"space": {"symmetric": "yes"}},
        {"space": {"block_size": "32"}},
        {"objectives": ["tpot", "perplexity_ratio"]},
        {"objectives": ["tpot_ms"]},
        {"objectives": ["tpot_ms", "tpot_ms"]},
        {"constraints": ["perplexity_ratio < 1.05"]},
        {"constraints": ["speed <= 1"]},
        {"sampler": {"name": "tpee"}},
        {"select": {"metric": "speed"}},
        {"select": {"weights": {"speed": 1}}},
        {"select": {"where": ["speed <= 1"]}},
        {"stop": {"timeout": "soon"}},
        {"children": {"memory": "8 gigs"}},
        {"evaluation": {"latency": {"half_width": 2}}},
        {"evaluation": {"text": {"datset": "a/b"}}},
        {"name": "my study"},
    ],
    ids=str,
)
def test_the_schema_refuses_what_loading_refuses(changes: dict[str, Any]) -> None:
    assert VALIDATOR.is_valid(sound())
    assert not VALIDATOR.is_valid(sound(**changes))
    with pytest.raises(UsageError):
        parse_config(sound(**changes), "x.yaml")


@pytest.mark.parametrize(
    "changes",
    [
        {"space": {"precision": "int4", "threads": {"low": 1, "high": 8, "step": 1}}},
        {"stop": {"timeout": 30, "trials": 3, "patience": None}},
        {"stop": {"timeout": "1.5h"}},
        {"children": {"memory": "8GB"}},
        {"evaluation": {"text": {"dataset": "a/b"}, "latency": {"half_width": "2%"}}},
        {"evaluation": {"text": "demo:news", "latency": {"half_width": 0.02}}},
        {"constraints": ["model_bytes <= 250MB", "top1_agreement >= 90%"]},
        {"select": {"by": "weights", "weights": {"tpot_ms": 1, "perplexity_ratio": 2}}},
    ],
    ids=str,
)
def test_the_schema_accepts_what_loading_accepts(changes: dict[str, Any]) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(sound(**changes))] == []
    parse_config(sound(**changes), "x.yaml")
