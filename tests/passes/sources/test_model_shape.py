"""Shapes of linear layers that a model's config gives, without its weights."""

from __future__ import annotations

from pathlib import Path

from olivine.passes.graph import linears, load_graph
from olivine.passes.sources.model_shape import cached_numbers, config_shapes
from olivine.passes.sources.source import resolve


def test_shapes_of_the_graph_are_those_that_its_config_tells(tiny_llama: Path, tiny_onnx: Path) -> None:
    graph = [layer.shape for layer in linears(load_graph(tiny_onnx / "model.onnx"))]
    assert sorted(graph) == sorted(config_shapes(resolve(str(tiny_llama))))


def test_shapes_of_the_demo_and_of_an_unknown_model() -> None:
    demo = config_shapes(resolve("demo:smollm2-135m-instruct"))
    assert demo[:5] == [(576, 960), (576, 576), (576, 1536), (576, 1536), (1536, 576)]
    assert (len(demo), demo[-1]) == (151, (576, 49152))
    assert len(config_shapes(None)) == 16 * 5 + 1


def test_a_token_leaves_keys_and_values_of_every_layer(tiny_llama: Path, tiny_onnx: Path) -> None:
    caches = [v for v in load_graph(tiny_onnx / "model.onnx").graph.inputs if str(v.name).startswith("past_key_values")]
    heads = [value.shape[1] for value in caches if value.shape is not None]
    assert cached_numbers(resolve(str(tiny_llama))) == 16 * sum(int(str(each)) for each in heads) == 2 * 2 * 2 * 16
    assert cached_numbers(None) == 2 * 16 * 8 * 64
