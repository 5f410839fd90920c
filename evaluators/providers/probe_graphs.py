"""One tiny graph for each operator that a decoder spends its time in, so that a provider can show its kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

TOKENS, WIDTH, OUTPUTS, BLOCK, VOCABULARY = 4, 128, 64, 32, 16
_HEAD = 64
_MICROSOFT = "com.microsoft"
_FLOATS: dict[str, tuple[type[np.floating[Any]], int]] = {
    "fp32": (np.float32, TensorProto.FLOAT),
    "fp16": (np.float16, TensorProto.FLOAT16),
}


def probe_graphs(precision: str) -> dict[str, bytes]:
    """Kernel in words -> serialized graph with fixed shapes, the usual one first.

    Args:
        precision: type of the activations, fp32 or fp16.
    """
    graphs = _Graphs(precision)
    return {
        "MatMul": graphs.matmul(),
        **{f"MatMulNBits int{bits}": graphs.weight_only(bits) for bits in (4, 8)},
        **{f"GatherBlockQuantized int{bits}": graphs.embedding(bits) for bits in (4, 8)},
        "GroupQueryAttention": graphs.attention(),
        "SkipSimplifiedLayerNormalization": graphs.norm(),
    }


class _Graphs:
    def __init__(self, precision: str) -> None:
        self._dtype, self._type = _FLOATS[precision]
        self._rng = np.random.default_rng(0)

    def matmul(self) -> bytes:
        node = helper.make_node("MatMul", ["x", "weight"], ["y"], name="MatMul")
        return self._graph(node, {"x": WIDTH}, {"weight": self._floats(WIDTH, OUTPUTS)}, OUTPUTS)

    def weight_only(self, bits: int) -> bytes:
        sizes: dict[str, Any] = {"K": WIDTH, "N": OUTPUTS, "bits": bits, "block_size": BLOCK}
        node = self._contrib("MatMulNBits", ["x", "codes", "scales"], **sizes)
        blocks = WIDTH // BLOCK
        weights = {
            "codes": self._codes(OUTPUTS, blocks, BLOCK * bits // 8),
            "scales": self._scales(OUTPUTS, blocks),
        }
        return self._graph(node, {"x": WIDTH}, weights, OUTPUTS)

    def embedding(self, bits: int) -> bytes:
        axes: dict[str, Any] = {"gather_axis": 0, "quantize_axis": 1, "bits": bits, "block_size": BLOCK}
        node = self._contrib("GatherBlockQuantized", ["codes", "ids", "scales"], **axes)
        weights = {
            "codes": self._codes(VOCABULARY, WIDTH * bits // 8),
            "scales": self._scales(VOCABULARY, WIDTH // BLOCK),
        }
        return self._graph(node, {"ids": 0}, weights, WIDTH)

    def attention(self) -> bytes:
        """Two heads that share one key and value head, with rotated positions, as the model builder writes them."""
        lengths = {"seqlens_k": np.array([TOKENS - 1], np.int32), "total": np.array(TOKENS, np.int32)}
        angles = np.arange(TOKENS)[:, None] / 10000 ** (np.arange(_HEAD // 2) / (_HEAD // 2))
        caches = {"cos": np.cos(angles).astype(self._dtype), "sin": np.sin(angles).astype(self._dtype)}
        read = ["query", "key", "value", "", "", *lengths, *caches]
        heads = {"num_heads": 2, "kv_num_heads": 1, "do_rotary": 1}
        node = self._contrib("GroupQueryAttention", read, ["y", "present_key", "present_value"], **heads)
        return self._graph(node, {"query": 2 * _HEAD, "key": _HEAD, "value": _HEAD}, {**lengths, **caches}, 2 * _HEAD)

    def norm(self) -> bytes:
        node = self._contrib("SkipSimplifiedLayerNormalization", ["x", "skip", "weight"], epsilon=1e-5)
        return self._graph(node, {"x": WIDTH, "skip": WIDTH}, {"weight": self._floats(WIDTH)}, WIDTH)

    def _contrib(self, op: str, inputs: Sequence[str], outputs: Sequence[str] = ("y",), **attributes: Any) -> NodeProto:
        return helper.make_node(op, inputs, outputs, name=op, domain=_MICROSOFT, **attributes)

    def _floats(self, *shape: int) -> np.ndarray:
        values: np.ndarray = self._rng.standard_normal(shape).astype(self._dtype)
        return values

    def _scales(self, *shape: int) -> np.ndarray:
        values: np.ndarray = self._rng.uniform(0.01, 0.02, shape).astype(self._dtype)
        return values

    def _codes(self, *shape: int) -> np.ndarray:
        return self._rng.integers(0, 256, shape, dtype=np.uint8)

    def _graph(self, node: NodeProto, inputs: dict[str, int], weights: dict[str, np.ndarray], width: int) -> bytes:
        """A graph of one node; a width of 0 stands for token ids."""
        read = [
            helper.make_tensor_value_info(name, self._type, [1, TOKENS, size])
            if size
            else helper.make_tensor_value_info(name, TensorProto.INT64, [1, TOKENS])
            for name, size in inputs.items()
        ]
        graph = helper.make_graph(
            [node],
            "probe",
            read,
            [helper.make_tensor_value_info("y", self._type, [1, TOKENS, width])],
            [numpy_helper.from_array(array, name) for name, array in weights.items()],
        )
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid(_MICROSOFT, 1)]
        return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())
