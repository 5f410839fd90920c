"""A quantized cache runs in both runtimes, is what scoring sees, and is refused where the kernel can't have it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from olivine.evaluators.process.client import Loop, ModelProcess
from olivine.passes.artifact import ModelArtifact
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import PassRefused, UsageError
from olivine.passes.graph import load_graph
from olivine.passes.learn.calibrated import Calibrated
from olivine.passes.learn.calibration import store_tokens
from olivine.passes.parity.graph_run import GraphRun
from olivine.passes.pipeline import build
from olivine.passes.quantize.kv_cache import QuantizeCache
from olivine.passes.sources.source import resolve
from olivine.passes.store.cache import Cache

PROMPT = [int(token) for token in np.random.default_rng(3).integers(4, 300, 80)]
both_widths = pytest.mark.parametrize("precision", ["int8", "int4"])


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("kv-cache"))


@pytest.fixture(scope="module")
def text(cache: Cache) -> str:
    return store_tokens(cache, np.random.default_rng(0).integers(4, 300, size=(4, 60)))


@pytest.fixture(scope="module")
def built(tiny_llama: Path, cache: Cache, text: str) -> Callable[..., Path]:
    """Folder of the tiny model with these axes."""
    source = resolve(str(tiny_llama))

    def folder(**choice: str | int | bool) -> Path:
        return build(source, LANGUAGE.compose({"threads": 1, **choice}), cache, text).artifact.path

    return folder


@pytest.fixture
def calibrated(tiny_onnx: Path, cache: Cache, text: str) -> Calibrated:
    artifact = ModelArtifact(tiny_onnx, "tiny", frozenset({"onnx", "float"}))
    return Calibrated(artifact, lambda: artifact, artifact.key, None, text, cache)


@pytest.fixture
def graph(tiny_onnx: Path) -> ir.Model:
    return load_graph(tiny_onnx / "model.onnx")


def attention(model: ir.Model) -> ir.Node:
    return next(node for node in model.graph if node.op_type == "GroupQueryAttention")


def logits(folder: Path, *pieces: int) -> np.ndarray:
    return np.concatenate(list(GraphRun(folder).logits(PROMPT, pieces or [len(PROMPT)])))


@pytest.mark.parametrize(("precision", "kind", "width"), [("int8", 3, 16), ("int4", 2, 8)])
def test_every_cache_is_stored_in_integers(built: Callable[..., Path], precision: str, kind: int, width: int) -> None:
    model = onnx.load(built(kv_cache=precision) / "model.onnx", load_external_data=False)
    caches = [v for v in (*model.graph.input, *model.graph.output) if v.name.endswith((".key", ".value"))]
    assert len(caches) == 2 * 2 * 2
    for value in caches:
        assert value.type.tensor_type.elem_type == kind
        assert value.type.tensor_type.shape.dim[3].dim_value == width
    for node in (node for node in model.graph.node if node.op_type == "GroupQueryAttention"):
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        assert attributes["kv_cache_bit_width"] == int(precision[3:])
        assert attributes["k_quant_type"] == attributes["v_quant_type"] == b"PER_CHANNEL"
        assert all(node.input[12:14])


def test_fewer_bits_lose_more(built: Callable[..., Path]) -> None:
    exact = logits(built())
    errors = [np.abs(logits(built(kv_cache=precision)) - exact).mean() for precision in ("int8", "int4")]
    assert 0 < 5 * errors[0] < errors[1]
    assert errors[0] < 0.05 * exact.std()


@both_widths
def test_a_prompt_in_one_piece_loses_what_it_loses_token_by_token(built: Callable[..., Path], precision: str) -> None:
    folder = built(kv_cache=precision)
    np.testing.assert_allclose(logits(folder, 30, *[1] * 50), logits(folder), rtol=0, atol=1e-5)


@both_widths
@pytest.mark.parametrize("loop", ["genai", "session"])
def test_processes_score_and_write_with_the_cache(
    built: Callable[..., Path], tmp_path: Path, precision: str, loop: Loop
) -> None:
    folder = built(kv_cache=precision, chunk_size=64, prune_head=True)
    expected = list(PROMPT)
    for _ in range(6):
        (rows,) = GraphRun(folder).logits(expected, [len(expected)])
        expected.append(int(rows[-1].argmax()))
    with ModelProcess.open(folder, loop=loop) as process:
        assert process.generate_until(PROMPT, 6, lambda ids: False) == expected[len(PROMPT) :]
        assert len(process.prefill(PROMPT, 4).ms) == 1
        assert len(process.decode(3).ms) == 3
    with (
        ModelProcess.open(built()) as reference,
        ModelProcess.open(built(kv_cache=precision), loop=loop) as candidate,
    ):
        reference.reference([(PROMPT, 40)], tmp_path / "reference.npz", 8)
        assert candidate.score(tmp_path / "reference.npz", 0).kl > 1e-9


@both_widths
def test_scores_of_a_head_at_once_are_those_in_tiles(built: Callable[..., Path], precision: str) -> None:
    whole = built(kv_cache=precision, prompt_attention="whole")
    np.testing.assert_allclose(logits(whole), logits(built(kv_cache=precision)), rtol=0, atol=1e-4)
    np.testing.assert_allclose(logits(whole, 30, *[1] * 50), logits(whole), rtol=0, atol=1e-4)


def test_weights_and_cache_are_quantized_together(built: Callable[..., Path]) -> None:
    folder = built(kv_cache="int8", precision="int4", algorithm="gptq", block_size=16)
    operators = {node.op_type for node in onnx.load(folder / "model.onnx", load_external_data=False).graph.node}
    assert {"MatMulNBits", "GroupQueryAttention"} <= operators
    assert np.isfinite(logits(folder)).all()


def test_a_cache_that_is_integer_already_is_refused(graph: ir.Model, calibrated: Calibrated) -> None:
    QuantizeCache(8).rewrite_calibrated(graph, calibrated)
    with pytest.raises(PassRefused, match=r"'present.0.key' is INT8 already"):
        QuantizeCache(4).rewrite_calibrated(graph, calibrated)


def test_a_graph_without_such_attention_is_refused_by_the_name_of_its_own(
    graph: ir.Model, calibrated: Calibrated
) -> None:
    for node in graph.graph:
        if node.op_type == "GroupQueryAttention":
            node.op_type = "MultiHeadAttention"
    with pytest.raises(PassRefused, match=r"only GroupQueryAttention .*; attention here is MultiHeadAttention"):
        QuantizeCache(8).rewrite_calibrated(graph, calibrated)


def test_a_layer_with_other_attention_is_refused(graph: ir.Model, calibrated: Calibrated) -> None:
    attention(graph).op_type = "MultiHeadAttention"
    with pytest.raises(PassRefused, match=r"'past_key_values.0.key' is read by MultiHeadAttention"):
        QuantizeCache(8).rewrite_calibrated(graph, calibrated)


def test_a_window_of_a_cache_is_refused(graph: ir.Model, calibrated: Calibrated) -> None:
    node = attention(graph)
    node.attributes["sliding_window_cache"] = ir.AttrInt64("sliding_window_cache", 1)
    with pytest.raises(PassRefused, match="keeps a window of its cache"):
        QuantizeCache(8).rewrite_calibrated(graph, calibrated)


def test_a_layer_that_keeps_no_cache_is_refused(graph: ir.Model, calibrated: Calibrated) -> None:
    attention(graph).replace_input_with(3, None)
    with pytest.raises(PassRefused, match="has no cache of its own"):
        QuantizeCache(8).rewrite_calibrated(graph, calibrated)


def test_steps_are_learned_so_text_is_needed(tiny_llama: Path, graph: ir.Model, tmp_path: Path) -> None:
    with pytest.raises(PassRefused, match="'kv_cache' learns from calibration text, and none was given"):
        build(resolve(str(tiny_llama)), LANGUAGE.compose({"kv_cache": "int8"}), Cache(tmp_path))
    with pytest.raises(PassRefused, match="'kv_cache' learns from calibration text, and none was given"):
        QuantizeCache(8).rewrite(graph)


def test_unknown_bits_are_a_mistake() -> None:
    with pytest.raises(UsageError, match="unknown bits '2'"):
        QuantizeCache(2)


def test_only_a_recipe_that_names_a_type_has_such_a_step() -> None:
    plain = LANGUAGE.compose({"threads": 1})
    assert LANGUAGE.compose({"threads": 1, "kv_cache": "float"}) == plain
    assert not plain.needs_calibration
    quantized = LANGUAGE.compose({"threads": 1, "kv_cache": "int4"})
    (step,) = set(quantized.steps) - set(plain.steps)
    assert (step.name, step.params) == ("kv_cache", {"bits": 4})
    assert quantized.needs_calibration
    assert LANGUAGE.compose({"provider": "openvino", "kv_cache": "int4"}) == LANGUAGE.compose({"provider": "openvino"})


def test_a_folder_with_a_quantized_cache_is_a_source_whose_threads_can_change(
    built: Callable[..., Path], cache: Cache
) -> None:
    folder = build(resolve(str(built(kv_cache="int8"))), LANGUAGE.compose({"threads": 2}), cache).artifact.path
    assert (
        json.loads((folder / "genai_config.json").read_text())["model"]["decoder"]["session_options"][
            "intra_op_num_threads"
        ]
        == 2
    )
