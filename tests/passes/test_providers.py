"""The table of providers against what the model builder makes: every graph that it promises loads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import BuildFailed
from olivine.passes.export.check import check_model
from olivine.passes.export.export import Export, float_refusal, float_type
from olivine.passes.graph import linears, load_graph
from olivine.passes.learn.calibration import store_tokens
from olivine.passes.pipeline import build
from olivine.passes.providers import PROVIDERS
from olivine.passes.sources.source import resolve
from olivine.passes.store.cache import Cache

GRAPHS = [(name, precision) for name, provider in PROVIDERS.items() for precision in provider.floats]


def exported(checkpoint: Path, to: Path, precision: str, layout: str) -> Path:
    """The builder's graph, whatever the table says of it."""
    from olivine.passes.export.genai_builder import run_builder

    to.mkdir()
    run_builder(checkpoint, to, precision, layout, [])
    return to


@pytest.mark.parametrize(("provider", "precision"), GRAPHS)
def test_every_promised_graph_loads(provider: str, precision: str, tiny_llama: Path, tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    Export(precision, provider).apply(tiny_llama, tmp_path / "onnx")
    check_model(tmp_path / "onnx")


@pytest.mark.parametrize("layout", ["cuda", "dml"])
def test_the_refused_float32_graphs_do_not_load(layout: str, tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match=r"present\.0\.key"):
        check_model(exported(tiny_llama, tmp_path / "onnx", "fp32", layout))
    assert "present.0.key" in str(float_refusal(layout, "fp32"))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_integer_weights_lie_on_a_float_type_that_runs_or_are_refused(provider: str) -> None:
    for precision in ("int8", "int4", "mixed"):
        assert float_refusal(provider, float_type(provider, precision)) is None
        refusal = float_refusal(provider, precision)
        assert (refusal is not None) == (provider == "trt-rtx")
        assert refusal is None or "DequantizeLinear" in refusal


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_provider_says_what_to_install(provider: str) -> None:
    assert "pip install " in PROVIDERS[provider].needs
    assert any(package.strip("'").startswith("onnxruntime") for package in PROVIDERS[provider].packages)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3"])
def test_layers_read_activations_of_the_same_name_on_every_provider(
    architecture: str, tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]
) -> None:
    checkpoint = make_tiny_checkpoint(tmp_path / "checkpoint", architecture)
    read = []
    for index, export in enumerate((Export("fp16", "cuda").reference(), Export("fp16", "cuda"), Export("fp16", "dml"))):
        (folder := tmp_path / str(index)).mkdir()
        export.apply(checkpoint, folder)
        layers = linears(load_graph(folder / "model.onnx"))
        read.append({str(layer.node.inputs[0].name) for layer in layers if layer.node.inputs[0] is not None})
    assert read[1] <= read[0]
    assert read[2] <= read[0]


@pytest.mark.parametrize(
    "choice",
    [
        {"precision": "bf16"},
        {"precision": "int4", "embedding": "int4", "fusion_level": "full"},
        {"precision": "int8", "algorithm": "k_quant", "embedding": "int8"},
        {"precision": "int4", "algorithm": "gptq"},
        {"precision": "mixed", "algorithm": "gptq", "int8_share": 0.3},
    ],
)
def test_what_cuda_is_offered_is_built(choice: dict[str, str | float], tiny_llama: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 10**9)
    text = store_tokens(cache, np.random.default_rng(0).integers(5, 300, (2, 24)))
    build(resolve(str(tiny_llama)), LANGUAGE.compose({"provider": "cuda", **choice}), cache, text)
