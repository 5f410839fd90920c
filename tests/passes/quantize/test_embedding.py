from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from olivine.passes.errors import PassRefused, UsageError
from olivine.passes.quantize.blocks.blockwise import quantize_blocks
from olivine.passes.quantize.embedding import QuantizeEmbedding
from olivine.passes.quantize.weight_only import WeightOnlyQuantize
from olivine.passes.store.digests import sha256_file

Rewrite = Callable[..., Any]
Weights = dict[str, np.ndarray]
Make = Callable[..., onnx.ModelProto]
IDS = np.array([0, 7, 39, 7], np.int64)


def looked_up(table: np.ndarray, bits: int) -> np.ndarray:
    """Rows of the table as its codes stand for them."""
    rows: np.ndarray = quantize_blocks(table.T, bits, 32, "rtn", True).dequantize().T[IDS]
    return rows


def logits(x: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    out: np.ndarray = ((x @ weights["gate"]) * (x @ weights["up"])) @ weights["down"] @ weights["head"]
    return out


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("tied", [False, True])
def test_the_kernel_looks_up_the_dequantized_rows(
    rewrite: Rewrite, decoder: Make, decoder_weights: Weights, bits: int, tied: bool
) -> None:
    table = decoder_weights["head"].T if tied else decoder_weights["embed"]
    found = rewrite(decoder(tied), QuantizeEmbedding(bits)).run(ids=IDS)
    expected = logits(looked_up(table, bits), decoder_weights)
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("bits", [4, 8])
def test_only_codes_and_scales_are_stored(rewrite: Rewrite, decoder: Make, bits: int) -> None:
    stored = rewrite(decoder(), QuantizeEmbedding(bits)).weights()
    assert "embed" not in stored
    assert stored[f"embed_Q{bits}"].dtype == np.uint8
    assert stored[f"embed_Q{bits}"].shape == (40, 64 * bits // 8)
    assert stored[f"embed_Q{bits}_scales"].shape == (40, 2)


def test_a_tied_head_keeps_its_float_weight(rewrite: Rewrite, decoder: Make, decoder_weights: Weights) -> None:
    done = rewrite(decoder(tied=True), QuantizeEmbedding(8))
    assert np.array_equal(done.weights()["head"], decoder_weights["head"])
    assert not any(node.op_type == "Transpose" for node in done.nodes().values())


def test_head_and_embedding_of_a_tied_model_are_quantized_apart(
    rewrite: Rewrite, decoder: Make, decoder_weights: Weights
) -> None:
    head_only = WeightOnlyQuantize(8, accuracy_level=0, lm_head_bits=4, overrides=((r"layers.*", 0),))
    found = rewrite(decoder(tied=True), head_only, QuantizeEmbedding(8)).run(ids=IDS)
    x = looked_up(decoder_weights["head"].T, 8)
    head = quantize_blocks(decoder_weights["head"], 4, 32, "rtn", True).dequantize()
    expected = logits(x, decoder_weights | {"head": head})
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def test_a_graph_without_an_embedding_is_refused(rewrite: Rewrite, single_matmul: Make) -> None:
    with pytest.raises(PassRefused, match="no Gather named embed_tokens"):
        rewrite(single_matmul(np.ones((32, 4), np.float32)), QuantizeEmbedding())


def test_a_hidden_size_that_fills_no_block_is_refused(
    rewrite: Rewrite, decoder: Make, decoder_weights: Weights
) -> None:
    for name in ("gate", "up", "embed"):
        weight = decoder_weights[name]
        decoder_weights[name] = weight[:, :40] if name == "embed" else weight[:40]
    with pytest.raises(PassRefused, match="hidden size 40 is not a multiple of 32"):
        rewrite(decoder(), QuantizeEmbedding())


def test_a_checkpoint_is_refused_with_the_reason() -> None:
    reason = QuantizeEmbedding().refuse(frozenset({"checkpoint"}))
    assert reason is not None
    assert "requires onnx" in reason


def test_other_widths_are_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown bits '2'\. Did you mean 4\? Available: 4, 8"):
        QuantizeEmbedding(2)


@pytest.mark.parametrize("tied", [False, True])
def test_the_same_pass_writes_the_same_bytes(rewrite: Rewrite, decoder: Make, tied: bool) -> None:
    first, second = (rewrite(decoder(tied), QuantizeEmbedding(), name=name).after for name in ("a", "b"))
    for name in ("model.onnx", "model.onnx.data"):
        assert (first.parent / name).read_bytes() == (second.parent / name).read_bytes()


def test_the_input_is_unchanged(rewrite: Rewrite, decoder: Make) -> None:
    before = rewrite(decoder(), name="copy").before
    hashes = [sha256_file(path) for path in sorted(before.parent.iterdir())]
    rewrite(decoder(), QuantizeEmbedding())
    assert [sha256_file(path) for path in sorted(before.parent.iterdir())] == hashes
