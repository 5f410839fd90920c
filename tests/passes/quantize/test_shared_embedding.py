from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import PassRefused
from olivine.passes.quantize import shared_embedding
from olivine.passes.quantize.blocks.blockwise import quantize_blocks
from olivine.passes.quantize.blocks.packing import PackedCodes, unpacked
from olivine.passes.quantize.embedding import QuantizeEmbedding
from olivine.passes.quantize.shared_embedding import ShareEmbedding, fitted
from olivine.passes.quantize.weight_only import WeightOnlyQuantize
from olivine.passes.store.digests import sha256_file

Rewrite = Callable[..., Any]
VOCAB, HIDDEN = 300, 64
IDS = np.arange(0, VOCAB, 7)
TABLE = np.random.default_rng(0).normal(size=(VOCAB, HIDDEN)).astype(np.float32)


def mixed(table: np.ndarray) -> np.ndarray:
    """The table times an invertible matrix, as the head of a rotated checkpoint is."""
    random = np.random.default_rng(3)
    q = np.linalg.qr(random.normal(size=(HIDDEN, HIDDEN)))[0]
    head: np.ndarray = table @ ((q * random.uniform(0.5, 2, HIDDEN)) @ q.T)
    return head.astype(np.float32)


def decoder(head: np.ndarray | None, table: np.ndarray = TABLE) -> onnx.ModelProto:
    """ids [S] -> embedding -> logits [S, VOCAB] and the embedding's rows; without a head of its own it is tied."""
    nodes = [
        helper.make_node("Gather", ["embed", "ids"], ["rows"], name="/model/embed_tokens/Gather"),
        helper.make_node("MatMul", ["rows", "head"], ["logits"], name="/lm_head/MatMul"),
    ]
    weights = {"head": np.ascontiguousarray((table if head is None else head).T)}
    if head is None:
        nodes.insert(0, helper.make_node("Transpose", ["head"], ["embed"], perm=[1, 0]))
    else:
        weights["embed"] = table
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["S"])],
        [
            helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["S", HIDDEN]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["S", VOCAB]),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def in_blocks(bits: int = 8, block_size: int = 32, symmetric: bool = True) -> WeightOnlyQuantize:
    return WeightOnlyQuantize(bits, "rtn", block_size, symmetric, accuracy_level=1, lm_head_bits=bits)


@pytest.mark.parametrize(
    ("bits", "block_size", "symmetric"),
    [(8, 32, True), (8, 32, False), (8, 128, True), (4, 16, True), (4, 32, False), (4, 128, False)],
)
@pytest.mark.parametrize("head", [None, mixed(TABLE)], ids=["tied", "rotated"])
def test_tokens_are_looked_up_in_the_codes_of_the_head(
    rewrite: Rewrite, bits: int, block_size: int, symmetric: bool, head: np.ndarray | None
) -> None:
    rows = rewrite(decoder(head), in_blocks(bits, block_size, symmetric), ShareEmbedding()).run(ids=IDS)
    codes = quantize_blocks((TABLE if head is None else head).T, bits, block_size, "rtn", symmetric).packed()
    stored, matrix = unpacked(codes, bits), fitted(codes, bits, TABLE)
    expected = (stored if matrix is None else stored @ matrix)[IDS]
    assert np.abs(rows - expected).max() < 1e-5 * np.abs(expected).max()
    assert np.square(rows - TABLE[IDS]).sum() < {8: 1e-3, 4: 0.03}[bits] * np.square(TABLE[IDS]).sum()


def test_rows_of_a_rotated_head_lose_no_more_than_a_table_of_their_own(rewrite: Rewrite) -> None:
    shared = rewrite(decoder(mixed(TABLE)), in_blocks(), ShareEmbedding(), name="shared").run(ids=IDS)
    own = rewrite(decoder(mixed(TABLE)), in_blocks(), QuantizeEmbedding(8), name="own").run(ids=IDS)
    assert np.square(shared - TABLE[IDS]).sum() < 2 * np.square(own - TABLE[IDS]).sum()


@pytest.mark.parametrize(("head", "products"), [(None, 0), (mixed(TABLE), 1)], ids=["tied", "rotated"])
def test_the_table_is_stored_once(rewrite: Rewrite, head: np.ndarray | None, products: int) -> None:
    done = rewrite(decoder(head), in_blocks(), ShareEmbedding())
    assert [name for name, array in done.weights().items() if array.size >= VOCAB * HIDDEN] == ["head_Q8"]
    assert [node.op_type for node in done.nodes().values()].count("MatMul") == products


@pytest.mark.parametrize("rows", [4096, HIDDEN], ids=["many tokens", "so few that anything fits"])
def test_another_matrix_than_the_head_is_refused(rows: int) -> None:
    random = np.random.default_rng(5)
    table, head = (random.normal(size=(rows, HIDDEN)).astype(np.float32) for _ in range(2))
    with pytest.raises(PassRefused, match=r"two are different matrices: \d+% of it would be lost. Use int8 or int4"):
        fitted(quantize_blocks(head.T, 8, 32, "rtn", True).packed(), 8, table)


def test_a_mean_that_two_matrices_have_in_common_does_not_make_them_one() -> None:
    random = np.random.default_rng(6)
    table, head = (10 + random.normal(size=(4096, HIDDEN)).astype(np.float32) for _ in range(2))
    with pytest.raises(PassRefused, match=r"two are different matrices: \d+% of it would be lost"):
        fitted(quantize_blocks(head.T, 8, 32, "rtn", True).packed(), 8, table)


def test_a_large_table_is_sampled_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 5,000 rows, 500 are read: at most 8 a column, 64 at a time; and the fit holds for the others."""
    monkeypatch.setattr(shared_embedding, "_BLOCK_ROWS", 64)
    read: list[int] = []

    def counted(codes: PackedCodes, bits: int, rows: slice) -> np.ndarray:
        read.append(len(range(5000)[rows]))
        return unpacked(codes, bits, rows)

    monkeypatch.setattr(shared_embedding, "unpacked", counted)
    table = np.random.default_rng(7).normal(size=(5000, HIDDEN)).astype(np.float32)
    codes = quantize_blocks(mixed(table).T, 8, 32, "rtn", True).packed()
    matrix = fitted(codes, 8, table)
    assert read == [64] * 7 + [52] + [64] * 7 + [52]
    assert matrix is not None
    assert np.square(unpacked(codes, 8) @ matrix - table).sum() < 1e-3 * np.square(table).sum()


@pytest.mark.parametrize("passes", [(), (WeightOnlyQuantize(lm_head_bits=0),)], ids=["float", "fp32 head"])
def test_a_head_that_is_not_stored_in_blocks_is_refused(
    rewrite: Rewrite, passes: tuple[WeightOnlyQuantize, ...]
) -> None:
    model = decoder(None)
    model.graph.node.append(
        helper.make_node("MatMul", ["rows", "body"], ["more"], name="/model/layers.0/mlp/up/MatMul")
    )
    model.graph.initializer.append(numpy_helper.from_array(TABLE.T[:, :32].copy(), "body"))
    model.graph.output.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["S", 32]))
    with pytest.raises(PassRefused, match=r"head, which is not stored in blocks here; give `lm_head` int8 or int4"):
        rewrite(model, *passes, ShareEmbedding())


def test_the_same_passes_write_the_same_bytes(rewrite: Rewrite) -> None:
    written = [
        rewrite(decoder(mixed(TABLE)), in_blocks(8, 128), ShareEmbedding(), name=name).after for name in ("a", "b")
    ]
    first, second = (sha256_file(path.with_name("model.onnx.data")) for path in written)
    assert first == second


def test_the_axis_gives_the_pass_in_place_of_a_table_of_its_own() -> None:
    names = [step.name for step in LANGUAGE.compose({"precision": "int8", "embedding": "shared"}).steps]
    assert "share_embedding" in names
    assert "embedding" not in names
