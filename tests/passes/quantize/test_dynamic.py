from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import PassRefused, UsageError
from olivine.passes.quantize.activations.integer_matmul import (
    REDUCED_TOP,
    TOP,
    channel_codes,
    channel_scales,
    quantize_activations,
)
from olivine.passes.quantize.dynamic import LAYER_GROUPS, DynamicQuantize
from olivine.passes.quantize.weight_only import WeightOnlyQuantize
from olivine.passes.store.digests import sha256_file

Rewrite = Callable[..., Any]
Weights = dict[str, np.ndarray]
Make = Callable[..., onnx.ModelProto]
IDS = np.array([0, 7, 39, 7], np.int64)


def quantized_linear(x: np.ndarray) -> tuple[np.ndarray, np.float32, np.uint8]:
    """ONNX's DynamicQuantizeLinear: uint8, one scale and zero point a tensor, zero included in the range."""
    low, high = np.minimum(x.min(), np.float32(0)), np.maximum(x.max(), np.float32(0))
    scale = np.float32((high - low) / np.float32(255))
    zero = np.uint8(np.clip(np.rint(-low / scale), 0, 255))
    codes = np.clip(np.rint(x / scale) + np.float32(zero), 0, 255).astype(np.uint8)
    return codes, scale, zero


def dynamic_product(x: np.ndarray, weight: np.ndarray, top: int = REDUCED_TOP) -> np.ndarray:
    """x @ weight as dynamic int8 computes it: an integer product, scaled."""
    codes, scale, zero = quantized_linear(x)
    product = (codes.astype(np.int32) - np.int32(zero)) @ channel_codes(weight, top).astype(np.int32)
    out: np.ndarray = product.astype(np.float32) * (scale * channel_scales(weight, top))
    return out


@given(
    seed=st.integers(0, 2**32 - 1),
    features=st.integers(1, 40),
    scale=st.sampled_from((1e-6, 1.0, 1e6)),
    top=st.sampled_from((REDUCED_TOP, TOP)),
)
def test_weights_err_by_half_a_step_of_their_channel(seed: int, features: int, scale: float, top: int) -> None:
    weight = (scale * np.random.default_rng(seed).normal(size=(features, 5))).astype(np.float32)
    codes, scales = channel_codes(weight, top), channel_scales(weight, top)
    assert codes.dtype == np.int8
    assert (np.abs(weight - codes * scales) <= scales * 0.5001).all()
    assert (np.abs(codes.astype(int)).max(axis=0) == top).all()


def test_a_channel_of_zeros_has_codes_of_zeros() -> None:
    weight = np.zeros((8, 2), np.float32)
    weight[:, 1] = 1
    codes = channel_codes(weight)
    assert not codes[:, 0].any()
    assert (codes[:, 1] == 127).all()


@pytest.mark.parametrize("features", [32, 64, 576])
def test_the_kernel_takes_the_product_in_integers(rewrite: Rewrite, single_matmul: Make, features: int) -> None:
    random = np.random.default_rng(features)
    weight = random.normal(size=(features, 24)).astype(np.float32)
    x = (random.normal(size=(5, features)) + 0.5).astype(np.float32)
    found = rewrite(single_matmul(weight), DynamicQuantize(LAYER_GROUPS["all"], reduce_range=True)).run(x=x)
    expected = dynamic_product(x, weight)
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def test_sums_of_7_bit_weights_fit_into_16_bits_and_those_of_8_do_not() -> None:
    assert 2 * 255 * REDUCED_TOP < 2**15 <= 2 * 255 * TOP


@pytest.mark.parametrize("features", [32, 576])
def test_8_bits_are_exact_where_no_sum_of_two_products_saturates(
    rewrite: Rewrite, single_matmul: Make, features: int
) -> None:
    """Every other activation is 0, so that any CPU's sums of neighbours fit."""
    random = np.random.default_rng(features)
    weight = random.normal(size=(features, 24)).astype(np.float32)
    x = random.uniform(0, 3, size=(5, features)).astype(np.float32)
    x[:, 1::2] = 0
    found = rewrite(single_matmul(weight), DynamicQuantize(LAYER_GROUPS["all"])).run(x=x)
    expected = dynamic_product(x, weight, TOP)
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def test_gate_and_up_share_one_quantization_of_their_input(rewrite: Rewrite, decoder: Make) -> None:
    done = rewrite(decoder(), DynamicQuantize(LAYER_GROUPS["mlp_in"]))
    nodes = list(done.nodes().values())
    (shared,) = [node for node in nodes if node.op_type == "DynamicQuantizeLinear"]
    readers = [node for node in nodes if node.op_type == "MatMulIntegerToFloat"]
    assert len(readers) == 2
    for reader in readers:
        assert (reader.input[0], reader.input[2], reader.input[4]) == tuple(shared.output)


@pytest.mark.parametrize(
    ("group", "chosen"),
    [
        ("all", {"gate", "up", "down"}),
        ("not_down", {"gate", "up"}),
        ("mlp", {"gate", "up", "down"}),
        ("mlp_in", {"gate", "up"}),
    ],
)
def test_a_group_names_its_layers(
    rewrite: Rewrite, decoder: Make, decoder_weights: Weights, group: str, chosen: set[str]
) -> None:
    done = rewrite(decoder(), DynamicQuantize(LAYER_GROUPS[group], reduce_range=True))
    found = {n.name for n in done.nodes().values() if n.op_type == "MatMulIntegerToFloat"}
    assert found == {f"/model/layers.0/mlp/{name}_proj/MatMul_I8" for name in chosen}

    def product(name: str, x: np.ndarray) -> np.ndarray:
        weight = decoder_weights[name]
        return dynamic_product(x, weight) if name in chosen else x @ weight

    x = decoder_weights["embed"][IDS]
    expected = product("down", product("gate", x) * product("up", x)) @ decoder_weights["head"]
    assert np.abs(done.run(ids=IDS) - expected).max() < 1e-4 * np.abs(expected).max()


def test_the_head_is_in_no_group() -> None:
    assert not any(re.fullmatch(pattern, "lm_head") for pattern in LAYER_GROUPS.values())


def test_weight_only_takes_the_layers_that_are_left(rewrite: Rewrite, decoder: Make) -> None:
    passes = (DynamicQuantize(LAYER_GROUPS["not_down"]), WeightOnlyQuantize(8, lm_head_bits=8))
    kinds = {name: node.op_type for name, node in rewrite(decoder(), *passes).nodes().items()}
    mlp = "/model/layers.0/mlp"
    assert kinds[f"{mlp}/gate_proj/MatMul_I8"] == "MatMulIntegerToFloat"
    assert kinds[f"{mlp}/down_proj/MatMul_Q8"] == "MatMulNBits"
    assert kinds["/lm_head/MatMul_Q8"] == "MatMulNBits"
    assert "MatMul" not in kinds.values()


def test_weight_only_may_find_nothing_left_but_a_float_head(rewrite: Rewrite, decoder: Make) -> None:
    passes = (DynamicQuantize(LAYER_GROUPS["all"]), WeightOnlyQuantize(8, lm_head_bits=0))
    kinds = [node.op_type for node in rewrite(decoder(), *passes).nodes().values()]
    assert kinds.count("MatMulIntegerToFloat") == 3
    assert kinds.count("MatMul") == 1


def test_a_pattern_without_layers_is_refused(rewrite: Rewrite, decoder: Make) -> None:
    with pytest.raises(PassRefused, match=r"no layer matches 'layers\\\.7/\.\*'"):
        rewrite(decoder(), DynamicQuantize(r"layers\.7/.*"))


def test_a_broken_pattern_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="is no regular expression"):
        DynamicQuantize("layers(")


def test_a_quantized_artifact_is_refused_with_the_reason() -> None:
    reason = DynamicQuantize().refuse(frozenset({"onnx", "quantized"}))
    assert reason is not None
    assert "requires float" in reason


def test_the_same_pass_writes_the_same_bytes(rewrite: Rewrite, decoder: Make) -> None:
    first, second = (rewrite(decoder(), DynamicQuantize(), name=name).after for name in ("a", "b"))
    for name in ("model.onnx", "model.onnx.data"):
        assert (first.parent / name).read_bytes() == (second.parent / name).read_bytes()


def test_the_input_is_unchanged(rewrite: Rewrite, decoder: Make) -> None:
    before = rewrite(decoder(), name="copy").before
    hashes = [sha256_file(path) for path in sorted(before.parent.iterdir())]
    rewrite(decoder(), DynamicQuantize())
    assert [sha256_file(path) for path in sorted(before.parent.iterdir())] == hashes


def test_a_smoothed_product_is_the_same_but_for_its_rounding(rewrite: Rewrite, single_matmul: Make) -> None:
    """One channel is a thousand times as loud as the others: unsmoothed, theirs drown in its step."""

    class Smoothed(DynamicQuantize):
        def rewrite(self, model: ir.Model) -> None:
            layers = [layer for layer, _ in self._chosen(model)]
            quantize_activations(model, layers, REDUCED_TOP, {"x": factors})

    random = np.random.default_rng(0)
    weight = random.normal(size=(64, 24)).astype(np.float32)
    x = random.normal(size=(5, 64)).astype(np.float32)
    x[:, 3] *= 1000
    weight[3] /= 1000
    factors = np.ones(64, np.float32)
    factors[3] = 1000
    plain, smoothed = (
        rewrite(single_matmul(weight), kind(LAYER_GROUPS["all"], reduce_range=True), name=kind.__name__).run(x=x)
        for kind in (DynamicQuantize, Smoothed)
    )
    assert np.abs(smoothed - dynamic_product(x / factors, weight * factors[:, None])).max() < 1e-4
    assert np.abs(smoothed - x @ weight).max() < np.abs(plain - x @ weight).max() / 20


def test_smoothing_without_text_is_refused(rewrite: Rewrite, decoder: Make) -> None:
    assert DynamicQuantize(smooth=True).needs_calibration
    with pytest.raises(PassRefused, match="learns from calibration text"):
        rewrite(decoder(), DynamicQuantize(smooth=True))


def test_smoothing_lets_down_proj_in_by_default() -> None:
    choice = LANGUAGE.canonical({"precision": "int8", "activations": "int8", "smooth": True})
    assert choice["dynamic_layers"] == "all"
    assert LANGUAGE.canonical({"precision": "int8", "activations": "int8"})["dynamic_layers"] == "not_down"
    found = DynamicQuantize.from_choice(choice)
    assert found == DynamicQuantize(LAYER_GROUPS["all"], bool(choice["reduce_range"]), smooth=True)


def product_by_token(x: np.ndarray, weight: np.ndarray, top: int = REDUCED_TOP) -> np.ndarray:
    """x [.., K] @ weight as dynamic int8 with one range a token computes it."""
    peaks = np.maximum(np.abs(x).max(axis=-1, keepdims=True), np.float32(1e-30))
    return dynamic_product(x / peaks, weight, top) * peaks


def test_each_token_has_a_range_of_its_own(rewrite: Rewrite, single_matmul: Make) -> None:
    """One token is a thousand times as loud as the others: with one range a tensor, theirs drown in its step."""
    random = np.random.default_rng(0)
    weight = random.normal(size=(64, 24)).astype(np.float32)
    x = random.normal(size=(5, 64)).astype(np.float32)
    x[2] *= 1000
    tensor, token = (
        rewrite(single_matmul(weight), DynamicQuantize(r".*", True, activation_range=word), name=word).run(x=x)
        for word in ("tensor", "token")
    )
    np.testing.assert_allclose(token, product_by_token(x, weight), rtol=1e-4, atol=1e-4)
    errors = [np.square(found - x @ weight)[[0, 1, 3, 4]].sum() for found in (tensor, token)]
    assert errors[1] < errors[0] / 1000


@pytest.mark.parametrize("rows", [1, 3], ids=["one token", "three tokens"])
def test_a_token_of_zeros_gives_zeros(rewrite: Rewrite, single_matmul: Make, rows: int) -> None:
    weight = np.random.default_rng(0).normal(size=(64, 24)).astype(np.float32)
    x = np.ones((rows, 64), np.float32)
    x[0] = 0
    found = rewrite(single_matmul(weight), DynamicQuantize(r".*", True, activation_range="token")).run(x=x)
    assert np.isfinite(found).all()
    assert not found[0].any()


def test_texts_of_a_batch_have_ranges_apart(rewrite: Rewrite) -> None:
    random = np.random.default_rng(0)
    weight = random.normal(size=(64, 24)).astype(np.float32)
    x = random.normal(size=(3, 4, 64)).astype(np.float32)
    x[1, 2] *= 1000
    found = rewrite(batched(weight), DynamicQuantize(r".*", True, activation_range="token")).run(x=x)
    np.testing.assert_allclose(found, product_by_token(x, weight), rtol=1e-4, atol=1e-4)


def batched(weight: np.ndarray) -> onnx.ModelProto:
    """One MatMul: x [B, S, K] -> y [B, S, N]."""
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"], name="/model/layers.0/mlp/down_proj/MatMul")
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["B", "S", size])
        for name, size in zip(("x", "y"), weight.shape, strict=True)
    ]
    weights = [onnx.numpy_helper.from_array(weight, "w")]
    graph = onnx.helper.make_graph([node], "main", values[:1], values[1:], weights)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)


def test_the_readers_of_an_activation_share_its_ranges(rewrite: Rewrite, decoder: Make) -> None:
    done = rewrite(decoder(), DynamicQuantize(LAYER_GROUPS["all"], True, activation_range="token"))
    kinds = [node.op_type for node in done.nodes().values()]
    assert [kinds.count(op) for op in ("Abs", "ReduceMax", "Max", "Div", "DynamicQuantizeLinear")] == [2] * 5
    assert kinds.count("MatMulIntegerToFloat") == 3
    assert kinds.count("Mul") == 1 + 3


def test_down_proj_alone_may_have_ranges_by_token(rewrite: Rewrite, decoder: Make) -> None:
    done = rewrite(decoder(), DynamicQuantize(LAYER_GROUPS["all"], True, activation_range="token_down"))
    nodes = done.nodes()
    divided = [node for node in nodes.values() if node.op_type == "Div"]
    assert [node.input[0] for node in divided] == ["h"]
    assert [node.op_type for node in nodes.values()].count("MatMulIntegerToFloat") == 3


def test_a_graph_of_an_older_opset_gets_nodes_of_that_opset(rewrite: Rewrite, single_matmul: Make) -> None:
    random = np.random.default_rng(0)
    weight, x = random.normal(size=(64, 24)).astype(np.float32), random.normal(size=(5, 64)).astype(np.float32)
    model = single_matmul(weight)
    model.opset_import[0].version = 13
    found = rewrite(model, DynamicQuantize(r".*", True, activation_range="token")).run(x=x)
    np.testing.assert_allclose(found, product_by_token(x, weight), rtol=1e-4, atol=1e-4)


def test_ranges_by_token_let_down_proj_in_by_default() -> None:
    int8 = {"precision": "int8", "activations": "int8"}
    for word in ("token", "token_down"):
        choice = LANGUAGE.canonical({**int8, "activation_range": word})
        assert choice["dynamic_layers"] == "all"
        found = DynamicQuantize.from_choice(choice)
        assert found == DynamicQuantize(LAYER_GROUPS["all"], bool(choice["reduce_range"]), activation_range=word)
    assert LANGUAGE.canonical({**int8, "activation_range": "tensor"})["dynamic_layers"] == "not_down"


def test_an_unknown_range_is_refused_with_the_words_there_are() -> None:
    with pytest.raises(UsageError, match="unknown activation_range 'tokens'"):
        DynamicQuantize(activation_range="tokens")
