from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from olivine.passes.artifact import ModelArtifact
from olivine.passes.errors import PassRefused, UsageError
from olivine.passes.graph import load_graph, save_graph
from olivine.passes.learn.calibrated import Calibrated
from olivine.passes.learn.calibration import Hessians
from olivine.passes.quantize.blocks.blockwise import quantize_blocks
from olivine.passes.quantize.blocks.gptq import gptq
from olivine.passes.quantize.blocks.packing import BlockCodes, unpack_bits
from olivine.passes.quantize.weight_only import WeightOnlyQuantize
from olivine.passes.store.cache import Cache
from olivine.passes.store.digests import sha256_file

MLP = "/model/layers.0/mlp"
Rewrite = Callable[..., Any]
Weights = dict[str, np.ndarray]
Make = Callable[..., onnx.ModelProto]
IDS = np.array([0, 7, 39, 7], np.int64)
#: (algorithm, symmetric)
SCHEMES = [("rtn", True), ("rtn", False), ("k_quant", True)]


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def kernel_cases() -> list[tuple[int, int, int]]:
    """(bits, block_size, K): every block size, with K = 576 where it is no multiple of the block as well."""
    cases = [(bits, size, 256) for bits, size in itertools.product((4, 8), (16, 32, 64, 128, 256))]
    return cases + [(bits, size, 576) for bits, size in itertools.product((4, 8), (64, 128, 256))]


@pytest.mark.parametrize(("algorithm", "symmetric"), SCHEMES)
@pytest.mark.parametrize(("bits", "block_size", "features"), kernel_cases())
@pytest.mark.parametrize(("accuracy_level", "tolerance"), [(0, 1e-5), (4, 2e-2)])
def test_the_kernel_multiplies_by_the_dequantized_weight(
    rewrite: Rewrite,
    single_matmul: Make,
    algorithm: str,
    symmetric: bool,
    bits: int,
    block_size: int,
    features: int,
    accuracy_level: int,
    tolerance: float,
) -> None:
    random = np.random.default_rng(features + block_size)
    weight = random.normal(size=(features, 24)).astype(np.float32)
    x = random.normal(size=(3, features)).astype(np.float32)
    one = WeightOnlyQuantize(bits, algorithm, block_size, symmetric, accuracy_level)
    codes = quantize_blocks(weight, bits, block_size, algorithm, symmetric)
    found = rewrite(single_matmul(weight), one).run(x=x)
    assert relative_error(found, x @ codes.dequantize()) < tolerance


@pytest.mark.parametrize(("algorithm", "symmetric"), SCHEMES)
@pytest.mark.parametrize("block_size", [16, 32, 64, 128])
def test_two_bits_run_as_well(
    rewrite: Rewrite, single_matmul: Make, algorithm: str, symmetric: bool, block_size: int
) -> None:
    random = np.random.default_rng(block_size)
    weight = random.normal(size=(256, 24)).astype(np.float32)
    x = random.normal(size=(3, 256)).astype(np.float32)
    one = WeightOnlyQuantize(2, algorithm, block_size, symmetric, accuracy_level=0)
    codes = quantize_blocks(weight, 2, block_size, algorithm, symmetric)
    assert relative_error(rewrite(single_matmul(weight), one).run(x=x), x @ codes.dequantize()) < 1e-5


@pytest.mark.parametrize("bits", [4, 8])
def test_what_is_stored_dequantizes_to_the_codes(rewrite: Rewrite, single_matmul: Make, bits: int) -> None:
    weight = np.random.default_rng(3).normal(size=(80, 5)).astype(np.float32)
    stored = rewrite(single_matmul(weight), WeightOnlyQuantize(bits, "rtn", 32, symmetric=False)).weights()
    codes, scales, zeros = (stored[f"w_Q{bits}{part}"] for part in ("", "_scales", "_zero_points"))
    assert codes.shape == (5, 3, 32 * bits // 8)
    found = BlockCodes(unpack_bits(codes, bits), scales, unpack_bits(zeros, bits)[:, :3], bits, 80)
    expected = quantize_blocks(weight, bits, 32, "rtn", False)
    assert np.array_equal(found.dequantize(), expected.dequantize())
    assert "w" not in stored


def test_symmetric_weights_store_no_zero_points(rewrite: Rewrite, single_matmul: Make) -> None:
    stored = rewrite(single_matmul(np.ones((32, 4), np.float32)), WeightOnlyQuantize()).weights()
    assert set(stored) == {"w_Q4", "w_Q4_scales"}


def decoded(weights: dict[str, np.ndarray], bits: dict[str, int], tied: bool = False) -> np.ndarray:
    """The decoder of conftest.py in numpy, with weights at the given widths; 0 is float."""
    w = {
        name: quantize_blocks(weight, bits[name], 32, "rtn", True).dequantize() if bits.get(name) else weight
        for name, weight in weights.items()
    }
    x = (weights["head"].T if tied else weights["embed"])[IDS]
    logits: np.ndarray = ((x @ w["gate"]) * (x @ w["up"])) @ w["down"] @ w["head"]
    return logits


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("head", [0, 4, 8])
def test_the_head_has_its_own_width_and_the_embedding_stays_float(
    rewrite: Rewrite, decoder: Make, decoder_weights: Weights, tied: bool, head: int
) -> None:
    one = WeightOnlyQuantize(4, accuracy_level=0, lm_head_bits=head)
    done = rewrite(decoder(tied), one)
    bits = {"gate": 4, "up": 4, "down": 4, "head": head}
    assert relative_error(done.run(ids=IDS), decoded(decoder_weights, bits, tied)) < 1e-5
    kept = done.nodes().get("/lm_head/MatMul")
    assert (kept is not None) == (head == 0)


def test_a_tied_embedding_gets_a_weight_of_its_own(rewrite: Rewrite, decoder: Make, decoder_weights: Weights) -> None:
    done = rewrite(decoder(tied=True), WeightOnlyQuantize())
    assert np.array_equal(done.weights()["model.embed_tokens.weight"], decoder_weights["head"].T)
    assert not any(node.op_type == "Transpose" for node in done.nodes().values())


def test_overrides_give_layers_their_own_width_or_leave_them_float(
    rewrite: Rewrite, decoder: Make, decoder_weights: Weights
) -> None:
    one = WeightOnlyQuantize(
        4,
        accuracy_level=0,
        lm_head_bits=4,
        overrides=((r"layers\.0/down_proj", 8), (r"layers\.\d+/up_proj", 0), ("lm_head", 0), (".*", 2)),
    )
    done = rewrite(decoder(), one)
    widths = {name: a.i for name, n in done.nodes().items() for a in n.attribute if a.name == "bits"}
    assert widths == {f"{MLP}/gate_proj/MatMul_Q2": 2, f"{MLP}/down_proj/MatMul_Q8": 8}
    expected = decoded(decoder_weights, {"gate": 2, "down": 8})
    assert relative_error(done.run(ids=IDS), expected) < 1e-5


def test_an_override_has_to_match_the_whole_path(rewrite: Rewrite, decoder: Make) -> None:
    done = rewrite(decoder(), WeightOnlyQuantize(overrides=(("down_proj", 0),)))
    assert f"{MLP}/down_proj/MatMul_Q4" in done.nodes()


def test_nothing_left_to_quantize_is_refused(rewrite: Rewrite, decoder: Make) -> None:
    one = WeightOnlyQuantize(overrides=((".*", 0),))
    with pytest.raises(PassRefused, match="no MatMul with a constant weight is left"):
        rewrite(decoder(), one)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"bits": 3}, r"unknown bits '3'. Did you mean 2\? Available: 2, 4, 8"),
        ({"block_size": 48}, r"unknown block_size '48'. Did you mean 32\?"),
        ({"algorithm": "kquant"}, r"unknown algorithm 'kquant'. Did you mean 'k_quant'\?"),
        ({"accuracy_level": 5}, "unknown accuracy_level '5'"),
        ({"lm_head_bits": 3}, "unknown lm_head_bits '3'"),
        ({"overrides": (("lm_head", 3),)}, "unknown bits in overrides '3'"),
        ({"overrides": (("(", 4),)}, r"'\(' is no regular expression"),
    ],
)
def test_parameters_that_no_kernel_knows_are_refused_at_once(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        WeightOnlyQuantize(**wrong)


def test_scales_have_the_type_of_the_float_weight(rewrite: Rewrite, single_matmul: Make) -> None:
    """A float16 graph computes in float16: MatMulNBits takes scales of the type of its input."""
    weight = np.random.default_rng(4).normal(size=(64, 8)).astype(np.float16)
    done = rewrite(single_matmul(weight), WeightOnlyQuantize(8, accuracy_level=0))
    assert done.weights()["w_Q8_scales"].dtype == np.float16
    x = np.random.default_rng(5).normal(size=(2, 64)).astype(np.float16)
    expected = x.astype(np.float32) @ weight.astype(np.float32)
    assert relative_error(done.run(x=x).astype(np.float32), expected) < 2e-2


def test_a_quantized_artifact_is_refused_with_the_reason() -> None:
    reason = WeightOnlyQuantize().refuse(frozenset({"onnx", "quantized"}))
    assert reason is not None
    assert "requires float" in reason
    assert WeightOnlyQuantize().refuse(frozenset({"onnx", "float"})) is None


@pytest.mark.parametrize(("algorithm", "symmetric"), SCHEMES)
def test_the_same_pass_writes_the_same_bytes(rewrite: Rewrite, decoder: Make, algorithm: str, symmetric: bool) -> None:
    one = WeightOnlyQuantize(4, algorithm, 32, symmetric)
    first, second = (rewrite(decoder(True), one, name=name).after for name in ("first", "second"))
    for name in ("model.onnx", "model.onnx.data"):
        assert (first.parent / name).read_bytes() == (second.parent / name).read_bytes()


def test_the_input_is_unchanged(rewrite: Rewrite, decoder: Make) -> None:
    before = rewrite(decoder(), name="copy").before
    hashes = [sha256_file(path) for path in sorted(before.parent.iterdir())]
    rewrite(decoder(), WeightOnlyQuantize())
    assert [sha256_file(path) for path in sorted(before.parent.iterdir())] == hashes


def test_outputs_keep_their_names_and_shapes(rewrite: Rewrite, decoder: Make) -> None:
    graph = onnx.load(rewrite(decoder(), WeightOnlyQuantize()).after).graph
    assert [output.name for output in graph.output] == ["logits"]
    assert [d.dim_param or d.dim_value for d in graph.output[0].type.tensor_type.shape.dim] == ["S", 40]


def test_gptq_takes_the_hessian_of_what_each_layer_reads(
    rewrite: Rewrite, decoder: Make, decoder_weights: Weights, tmp_path: Path
) -> None:
    random = np.random.default_rng(7)
    sizes = {"x": 64, "h": 96, "d": 64}
    moments = {name: (x := random.normal(size=(300, k)).astype(np.float32)).T @ x / 300 for name, k in sizes.items()}
    for name, hessian in moments.items():
        np.save(tmp_path / f"{name}.npy", hessian)
    one = WeightOnlyQuantize(4, "gptq", 32, symmetric=False, accuracy_level=0)
    plain = rewrite(decoder())
    graph = load_graph(plain.before)
    artifact = ModelArtifact(plain.before.parent, "graph", frozenset())
    (artifact.path / "genai_config.json").write_text('{"model": {"decoder": {"filename": "model.onnx"}}}')

    def taught(names: Iterable[str]) -> Calibrated:
        found = Calibrated(artifact, lambda: artifact, "graph", None, "text", Cache(tmp_path / "-".join(names)))
        vars(found)["hessians"] = Hessians(tmp_path, "key", {name: f"{name}.npy" for name in names})
        return found

    one.rewrite_calibrated(graph, taught(sizes))
    save_graph(graph, tmp_path / "model.onnx")
    w = {
        name: gptq(decoder_weights[name], moments[reads], 4, 32).dequantize()
        for name, reads in {"gate": "x", "up": "x", "down": "h", "head": "d"}.items()
    }
    x = decoder_weights["embed"][IDS]
    found = replace(plain, after=tmp_path / "model.onnx").run(ids=IDS)
    assert relative_error(found, ((x @ w["gate"]) * (x @ w["up"])) @ w["down"] @ w["head"]) < 1e-5

    with pytest.raises(PassRefused, match="captured nothing of what lm_head reads"):
        one.rewrite_calibrated(load_graph(plain.before), taught(["x", "h"]))


def test_gptq_is_refused_without_calibration_text(rewrite: Rewrite, decoder: Make) -> None:
    with pytest.raises(PassRefused, match="gptq learns from calibration text, and none was given"):
        rewrite(decoder(), WeightOnlyQuantize(algorithm="gptq"))
