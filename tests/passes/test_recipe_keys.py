"""Keys of recipes and of cached stages stay those of version 0.1.0: its records and caches name builds by them."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_graph import tiny_graph

from olivine.passes.base import Scalar
from olivine.passes.catalog import GRAPH, LANGUAGE, read_recipe
from olivine.passes.graphs.graph_inputs import graph_inputs, synthetic, write_feeds
from olivine.passes.graphs.source import resolve_graph
from olivine.passes.pipeline import build, stage_key
from olivine.passes.store.cache import Cache
from olivine.passes.store.digests import digest

DYNAMIC: dict[str, Scalar] = {"precision": "int8", "activations": "dynamic"}
STATIC: dict[str, Scalar] = {"precision": "int8", "activations": "static"}
EXACT: dict[str, Scalar] = {"activations": "int8", "reduce_range": False}


@pytest.mark.parametrize(
    ("choice", "key"),
    [
        ({}, "f466862a7fcc"),
        ({"precision": "int4"}, "f3b3a22ac38d"),
        (
            {"precision": "int4", "algorithm": "gptq", "block_size": 64, "accuracy_level": 1, "embedding": "int4"},
            "3c2f39db4d3e",
        ),
        ({"precision": "int8", "fusion_level": "full", "spinning": False, **EXACT}, "dd84ccd049ee"),
        (
            {"precision": "mixed", "rotate": True, "prune_head": True, "optimization_level": "basic"},
            "28ae6dc06dae",
        ),
        ({"precision": "mixed", "dynamic_share": 0.4, **EXACT}, "93a98019f347"),
        ({"provider": "cuda", "precision": "int4", "graph_capture": True, "fusion_level": "none"}, "5198ded77214"),
        ({"provider": "openvino"}, "b908971e7394"),
    ],
    ids=str,
)
def test_a_recipe_of_a_language_model_has_the_key_it_always_had(choice: dict[str, Scalar], key: str) -> None:
    recipe = LANGUAGE.compose({**choice, "threads": 2})
    assert recipe.key == key
    assert read_recipe(recipe.to_json()) == recipe
    assert recipe.threads == 2


@pytest.mark.parametrize(
    ("choice", "reduce_range", "key"),
    [
        ({}, None, "89827aeda613"),
        ({"fusion_level": "full"}, None, "6ab0f2aac874"),
        ({"precision": "int8"}, None, "79b2dafdba13"),
        (
            {"precision": "int4", "algorithm": "k_quant", "block_size": 128, "fusion_level": "basic"},
            None,
            "114cd384c9f7",
        ),
        ({**DYNAMIC, "embedding": "int8"}, False, "d49f5627e92d"),
        ({**DYNAMIC, "per_channel": False}, True, "4213cf2846e1"),
        ({**STATIC, "calibration": "percentile", "float_down": True}, False, "b0f6ba82f4c2"),
        ({**STATIC, "fusion_level": "full"}, True, "444826453aee"),
    ],
    ids=str,
)
def test_a_recipe_of_a_graph_has_the_key_it_always_had(
    choice: dict[str, Scalar], reduce_range: bool | None, key: str
) -> None:
    steps = GRAPH.compose({**choice, "threads": 2}).to_json()
    for step in steps:
        if "reduce_range" in step["params"]:
            step["params"]["reduce_range"] = reduce_range
    recipe = read_recipe(steps)
    assert recipe.key == key
    assert recipe == GRAPH.recipe(steps)
    assert (recipe.threads, recipe.provider) == (2, "cpu")


@pytest.mark.parametrize("precision", ["int8", "mixed"])
def test_an_axis_that_came_later_changes_no_recipe_at_its_default(precision: str) -> None:
    choice: dict[str, Scalar] = {"precision": precision, "dynamic_share": 0.4, "smooth": True, **EXACT}
    if precision == "int8":
        del choice["dynamic_share"]
    tensor, token = ({**choice, "activation_range": word} for word in ("tensor", "token"))
    assert LANGUAGE.canonical(tensor) == LANGUAGE.canonical(choice)
    assert "activation_range" not in LANGUAGE.canonical(choice)
    assert LANGUAGE.compose(tensor) == LANGUAGE.compose(choice)
    assert all("activation_range" not in step.params for step in LANGUAGE.compose(tensor).steps)
    recipe = LANGUAGE.compose(token)
    assert recipe.key != LANGUAGE.compose(choice).key
    assert read_recipe(recipe.to_json()) == recipe
    assert not any(step.params.get("smooth") for step in recipe.steps)


def test_a_stage_of_a_language_model_is_cached_under_its_inputs_parameters_and_versions() -> None:
    (weight_only,) = LANGUAGE.compose({"precision": "int4"}).passes()[1:-1]
    params = {
        "bits": 4,
        "algorithm": "rtn",
        "block_size": 32,
        "symmetric": True,
        "accuracy_level": 4,
        "lm_head_bits": 4,
        "overrides": [],
    }
    libraries = {name: version(name) for name in ("onnx-ir", "torch", "numpy", "scipy")}
    parts: list[Any] = ["inputs", [["weight_only", 7, params, libraries]]]
    assert stage_key("inputs", [weight_only], "text") == digest(parts)


@pytest.mark.parametrize("activations", ["float", "static"])
def test_a_stage_of_a_graph_is_cached_under_its_inputs_and_parameters(activations: str, tmp_path: Path) -> None:
    source = resolve_graph(str(tiny_graph(tmp_path / "tiny.onnx")))
    feed = synthetic(graph_inputs(source.path), {"batch": 1, "sequence": 4}, np.random.default_rng(0))
    write_feeds(tmp_path / "feeds.npz", [feed])
    recipe = GRAPH.compose({"precision": "int8", "activations": activations, "threads": 2})
    libraries = {name: version(name) for name in ("onnx", "onnxruntime", "onnx-ir")}
    key = digest(["plain", 2, source.key, libraries])
    quantize, session = recipe.to_json()
    samples = [digest([["input_ids", "int64", feed["input_ids"].tolist()]])] if activations == "static" else []
    key = digest([key, quantize["name"], quantize["params"], "", *samples])
    key = digest([key, "session_options", session["params"], ""])
    assert build(source, recipe, Cache(tmp_path / "cache"), samples=tmp_path / "feeds.npz").artifact.key == key
