from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_graph import tiny_plain_yaml

from olivine.passes.catalog import GRAPH
from olivine.passes.errors import UsageError
from olivine.search.config.graph import GraphStudyConfig
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.load import parse_config
from olivine.search.samplers.exhaustive import count_candidates
from olivine.search.workloads.graph import base_choice

MODEL = Path("tiny.onnx")


def mistakes(**changes: Any) -> str:
    with pytest.raises(UsageError) as caught:
        parse_config(tiny_plain_yaml(MODEL, **changes), "x.yaml")
    return str(caught.value)


def test_a_study_is_of_a_plain_graph_by_its_inputs() -> None:
    assert isinstance(parse_config(tiny_plain_yaml(MODEL), "x.yaml"), GraphStudyConfig)
    assert isinstance(
        parse_config({"model": "a/b", "space": {"precision": ["int8", "int4"]}}, "x.yaml"), LanguageStudyConfig
    )


def test_candidates_are_distinct_recipes_without_the_base() -> None:
    for changes, count in (({"space": {"precision": ["fp32", "int8"], "block_size": [16, 32]}}, 2), ({}, 6)):
        config = parse_config(tiny_plain_yaml(MODEL, **changes), "x.yaml")
        base = GRAPH.compose(base_choice(config))
        assert count_candidates(config.search_space(), uncounted=[base.key]) == count


def test_the_base_has_the_threads_of_the_candidates_and_nothing_else_of_theirs() -> None:
    space = {"precision": "int8", "fusion_level": "full", "threads": 1}
    choice = base_choice(parse_config(tiny_plain_yaml(MODEL, space=space), "x.yaml"))
    assert choice == {"fusion_level": "none", "precision": "fp32", "threads": 1}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"space": {"precision": ["int3"]}}, "space.precision: unknown value 'int3'. Did you mean 'int4'"),
        ({"space": {"lm_head": "int8"}}, "space.lm_head: unknown axis"),
        ({"space": {"precision": "int4", "calibration": "entropy"}}, "space.calibration: has no effect"),
        ({"space": {"threads": [1, 2]}}, "takes one value in a study"),
        ({"inputs": {"shapes": {}}}, "inputs.shapes: takes at least 1"),
        ({"inputs": {"shapes": {"one": {"batch": 0}}}}, "inputs.shapes.one.batch: takes at least 1; found 0"),
        (
            {"inputs": {"shapes": {"one": {"batch": 1}}, "data": "a.npz", "pictures": "b"}},
            "takes samples from one of text, pictures and data; found pictures, data",
        ),
        ({"objectives": ["tpot_ms", "cosine_distance"]}, "objectives.0: unknown metric 'tpot_ms'"),
        ({"constraints": ["perplexity_ratio <= 1.1"]}, "unknown metric 'perplexity_ratio'"),
        ({"select": {"where": ["cosine <= 0.1"]}}, "Did you mean 'cosine_distance'"),
        ({"confirm": {"windows": 4}}, "confirm.windows: has no effect in a study of a plain graph"),
        ({"sampler": {"name": "forecast"}}, "'forecast' is for language models"),
        (
            {"evaluation": {"multi_label": True}},
            "evaluation.multi_label: speaks of logits: write logits: true beside it",
        ),
        ({"kernel_probe": True}, "kernel_probe: unknown key"),
        ({"enqueue": [{"precision": "int5"}]}, "enqueue.0.precision: unknown value 'int5'"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_mistakes_are_named_with_their_place(changes: dict[str, Any], said: str) -> None:
    assert said in mistakes(**changes)


def test_metrics_of_plain_graphs_are_none_of_a_language_models_study() -> None:
    raw = {"model": "a/b", "space": {"precision": "int8"}, "objectives": ["latency_ms", "perplexity_ratio"]}
    with pytest.raises(UsageError, match="unknown metric 'latency_ms'"):
        parse_config(raw, "x.yaml")
